"""Operations are recognised when they are repeated: in one life by memory, in the next by the manifest and the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards import op_history, sealing
from shards.errors import Corrupt
from shards.op_history import OpHistory
from shards.recovery import open_collection
from shards.settings import ShardSettings
from tests.shard_oracle import UID, batch_of, new_collection, reopened, upsert_op


def test_what_is_remembered_survives_encoding() -> None:
    history = OpHistory()
    assert history.encode() == b""
    for number in range(1, 4):
        history.add(bytes([number]) * 15 + b"\0", number)
    again = OpHistory()
    again.restore(history.encode())
    assert [again.lsn_of(bytes([number]) * 15 + b"\0") for number in range(1, 5)] == [1, 2, 3, None]
    with pytest.raises(Corrupt, match="71 bytes"):
        again.restore(history.encode()[:-1])


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_history, "OPS_KEPT", 3)
    history = OpHistory()
    for number in range(1, 6):
        history.add(bytes([number]) * 16, number)
    assert [history.lsn_of(bytes([number]) * 16) for number in range(1, 6)] == [None, None, 3, 4, 5]


def test_a_repeated_operation_is_recognised_though_the_log_has_forgotten_it(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c")
    op = upsert_op(batch_of([1]))
    lsn = collection.commit([op], 1)
    for version in range(1, 5):
        collection.commit([upsert_op(batch_of([1], version))], 1)
        sealing.seal_all(collection)
    again = reopened(tmp_path / "c")
    assert min(int(path.stem.removeprefix("wal-")) for path in (tmp_path / "c" / "wal").glob("wal-*")) > lsn
    assert again.history.lsn_of(op.op_id) == lsn
    assert len(list((tmp_path / "c").glob("ops-*.bin"))) == 2


def test_a_damaged_history_is_not_believed(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c")
    for key in (1, 2):
        collection.commit([upsert_op(batch_of([key]))], 1)
        sealing.seal_all(collection)
    newest = max((tmp_path / "c").glob("ops-*.bin"))
    newest.write_bytes(newest.read_bytes()[:-1])
    opened = open_collection(tmp_path / "c", UID, ShardSettings())
    assert opened.collection.count() == 2
    assert any(newest.name in note for note in opened.notes)
