"""A snapshot as one file: what is written is read, in any pieces, by any tar program; nothing else is."""

from __future__ import annotations

import contextlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from cluster.collection_settings import SETTINGS_BYTES_MAX
from cluster.shard_map import EPOCH_MAX, even_map
from cluster.snapshot_archive import (
    BLOCK,
    DESCRIPTION_BYTES_MAX,
    END,
    ArchiveReader,
    archive_bytes,
    encode_content,
    header,
    padding,
)
from cluster.snapshot_model import (
    DESCRIPTION_ENTRY,
    TENANT_FIELD_BYTES_MAX,
    SnapshotContent,
    SnapshotDescription,
    SnapshotPart,
    check_fits,
    decode_content,
    entries,
    recovered,
    snapshot_name,
    those_that_count,
)
from cluster.snapshot_model import (
    content_of as content_of_collection,
)
from cluster.state import CollectionState
from shards.distance import Distance
from shards.errors import DamagedSnapshot, InvalidRequest
from shards.schema import CollectionSpec, VectorSpec
from shards.snapshot import check_name

FILES = {
    "shard-0/manifest-00000001.json": b"{}",
    "shard-0/segments/a/keys.u64": bytes(range(256)) * 9,
    "shard-1/snapshot.json": b"",
    "shard-1/wal/wal-1.log": b"x" * BLOCK,
}


def content_of(files: dict[str, bytes]) -> SnapshotContent:
    parts = []
    for shard_id in (0, 1):
        own = {
            name.partition("/")[2]: len(data) for name, data in files.items() if name.startswith(f"shard-{shard_id}/")
        }
        parts.append(SnapshotPart(shard_id=shard_id, last_lsn=7, files=own))
    return SnapshotContent(
        name="one",
        collection="words",
        uid="a" * 32,
        created_s=1.5,
        spec=CollectionSpec(vectors={"": VectorSpec(size=4, distance=Distance.DOT)}),
        shard_map=even_map([0, 1], epoch=3),
        settings='{"metadata":{"a":1}}',
        tenant_field="org",
        parts=tuple(parts),
    )


CONTENT = content_of(FILES)


def archive(content: SnapshotContent = CONTENT, files: dict[str, bytes] | None = None) -> bytes:
    parts = [encode_content(content)]
    for name, data in (files or FILES).items():
        parts += [header(name, len(data)), data, padding(len(data))]
    return b"".join([*parts, END])


def read(data: bytes, step: int = 10**9) -> dict[str, bytes]:
    found, content = read_any(data, step)
    assert content == CONTENT
    return found


def read_any(data: bytes, step: int = 10**9) -> tuple[dict[str, bytes], SnapshotContent | None]:
    reader, found = ArchiveReader(), {}
    for start in range(0, len(data), step):
        for piece in reader.feed(data[start : start + step]):
            assert len(found.setdefault(piece.entry.name, b"")) == piece.offset
            found[piece.entry.name] += piece.content
    reader.finish()
    return found, reader.content


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 4096, 10**9])
def test_what_is_written_is_read_in_any_pieces(step: int) -> None:
    assert read(archive(), step) == FILES
    assert [(entry.name, entry.byte_count) for entry in entries(CONTENT)] == [(k, len(v)) for k, v in FILES.items()]


def test_the_length_is_known_before_and_any_program_reads_it() -> None:
    assert len(archive()) == archive_bytes(CONTENT)
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        assert tar.getnames() == [DESCRIPTION_ENTRY, *FILES]
        for name, data in FILES.items():
            member = tar.extractfile(name)
            assert member is not None
            assert member.read() == data


def test_large_files_have_a_header() -> None:
    info = tarfile.TarInfo.frombuf(header("shard-0/segments/a/vectors.f32", 2**40), "utf-8", "strict")
    assert info.size == 2**40


def test_a_file_that_is_cut_anywhere_is_refused() -> None:
    data = archive()
    for end in (*range(0, len(data) - len(END), 97), len(data) - len(END) - 1):
        with pytest.raises(DamagedSnapshot, match="ends too early"):
            read(data[:end])


def typed(kind: bytes, name: str = "shard-0/manifest-00000001.json", link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 2
    return info.tobuf(tarfile.GNU_FORMAT)


FIRST = len(encode_content(CONTENT))
SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "no tar": lambda data: b"PK" + data[2:],
    "a symbolic link": lambda data: data[:FIRST] + typed(tarfile.SYMTYPE, link="/etc/passwd") + data[FIRST + BLOCK :],
    "a hard link": lambda data: data[:FIRST] + typed(tarfile.LNKTYPE, link="shard.json") + data[FIRST + BLOCK :],
    "a folder": lambda data: data[:FIRST] + typed(tarfile.DIRTYPE) + data[FIRST + BLOCK :],
    "a device": lambda data: data[:FIRST] + typed(tarfile.BLKTYPE) + data[FIRST + BLOCK :],
    "a long name": lambda data: data[:FIRST] + typed(tarfile.GNUTYPE_LONGNAME) + data[FIRST + BLOCK :],
    "an extended header": lambda data: data[:FIRST] + typed(tarfile.XHDTYPE) + data[FIRST + BLOCK :],
    "a path upwards": lambda data: data[:FIRST] + typed(tarfile.REGTYPE, "shard-0/../x") + data[FIRST + BLOCK :],
    "an absolute path": lambda data: data[:FIRST] + typed(tarfile.REGTYPE, "/etc/passwd") + data[FIRST + BLOCK :],
    "another order": lambda data: archive(files=dict(reversed(FILES.items()))),
    "another length": lambda data: archive(files={**FILES, "shard-0/manifest-00000001.json": b"{ }"}),
    "one more": lambda data: archive(files={**FILES, "shard-1/x": b"{}"}),
    "none first": lambda data: data[FIRST:],
    "something behind": lambda data: data + b"x",
    "something between": lambda data: data[: FIRST + BLOCK + 2] + b"x" + data[FIRST + BLOCK + 3 :],
    "a huge description": lambda data: header(DESCRIPTION_ENTRY, DESCRIPTION_BYTES_MAX + 1) + data,
    "another description": lambda data: header(DESCRIPTION_ENTRY, 2) + b"{}" + padding(2) + data,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_nothing_else_is_read(spoil: Callable[[bytes], bytes]) -> None:
    for step in (100, 10**9):
        with pytest.raises(DamagedSnapshot):
            read(spoil(archive()), step)


def test_random_damage_is_refused_or_harmless() -> None:
    """Damage within a file is the shard's to find, by its own checksums; no other error ever comes out."""
    chance = random.Random(5)
    data = archive()
    for _ in range(300):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(DamagedSnapshot):
            assert read_any(bytes(damaged))[0].keys() == FILES.keys()


def test_the_parts_are_those_of_the_shard_map() -> None:
    odd = CONTENT.model_copy(update={"parts": CONTENT.parts[:1]})
    with pytest.raises(DamagedSnapshot, match="not those of the shard map"):
        decode_content(odd.model_dump_json().encode())


def described(changes: dict[str, Any]) -> bytes:
    encoded = CONTENT.model_dump(mode="json")
    encoded["shard_map"]["epoch"] = changes.pop("epoch", 3)
    return json.dumps({**encoded, **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": EPOCH_MAX + 1}, "EPOCH_MAX"),
        ({"epoch": 2**70}, "EPOCH_MAX"),
        ({"epoch": 0}, "shard_map.epoch"),
        ({"tenant_field": "a["}, "no JSON path"),
        ({"tenant_field": "a" * (TENANT_FIELD_BYTES_MAX + 1)}, "TENANT_FIELD_BYTES_MAX"),
        ({"late_tenant_field": ""}, "no JSON path"),
        ({"settings": "[1,2]"}, "object of sections"),
        ({"settings": "{"}, "no JSON"),
        ({"settings": '{"metadata":1}'}, "object of sections"),
        ({"settings": '{"metadata":{"a":NaN}}'}, "NaN"),
        ({"settings": '{"vectors":[]}'}, "object of sections"),
        ({"settings": '{"vectors":{"":[]}}'}, "object of sections"),
        ({"settings": '{"vectors":{"other":{}}}'}, "'other'"),
        ({"settings": '{"metadata":' + "[" * 30_000}, "no JSON"),
        ({"settings": '{"metadata":{"a":%s}}' % ("[" * 40 + "]" * 40)}, "SETTINGS_DEPTH_MAX"),
        ({"settings": '{"metadata":{"a":"%s"}}' % ("x" * SETTINGS_BYTES_MAX)}, "SETTINGS_BYTES_MAX"),
        ({"settings": '{"metadata":{"a":"%s"}}' % ("\u00e9" * (SETTINGS_BYTES_MAX // 2))}, "SETTINGS_BYTES_MAX"),
    ],
)
def test_what_no_collection_of_the_catalogue_has_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DamagedSnapshot, match=DESCRIPTION_ENTRY) as refusal:
        decode_content(described(changes))
    assert words in refusal.value.message
    assert len(refusal.value.message) < 500


def test_what_a_collection_may_have_is_read() -> None:
    settings = '{"metadata":{"a":[1.5,null]},"params":{"on_disk_payload":true},"vectors":{"":{"on_disk":true}}}'
    changes = {"epoch": EPOCH_MAX, "tenant_field": 'a."b c"[0].d', "settings": settings}
    content = decode_content(described(dict(changes)))
    assert (content.shard_map.epoch, content.tenant_field, content.settings) == tuple(changes.values())


def test_a_snapshot_fits_where_its_shards_are() -> None:
    check_fits(CONTENT, [0, 1])
    check_fits(CONTENT, [0, 1, 2])
    with pytest.raises(InvalidRequest, match="over 2 shards, this cluster has 1"):
        check_fits(CONTENT, [0])
    with pytest.raises(InvalidRequest, match="in another way"):
        check_fits(CONTENT, [4, 5])


def test_the_lead_s_description_counts() -> None:
    description = SnapshotDescription(content=CONTENT, byte_count=1, sha256="x")
    encoded = description.model_dump(mode="json")
    assert those_that_count({0: [encoded], 1: [encoded]}) == [description]
    assert those_that_count({0: [], 1: [encoded]}) == []
    assert those_that_count({0: [{"of": "another version"}]}) == []
    assert description.created_at == "1970-01-01T00:00:01"


def test_a_recovered_collection_is_the_same_under_another_uid() -> None:
    item = recovered(CONTENT, "other", "b" * 32)
    assert (item.name, item.uid, item.status, item.restored) == ("other", "b" * 32, "creating", True)
    assert (item.tenant_field, item.settings, item.shard_map) == ("org", CONTENT.settings, CONTENT.shard_map)


def test_everything_that_the_catalogue_knows_of_a_collection_comes_back() -> None:
    before = recovered(CONTENT, "words", "a" * 32).model_copy(
        update={"status": "ready", "restored": False, "tenant_field": None, "late_tenant_field": "team"}
    )
    content = content_of_collection(before, "one", 1.0, {})
    after = recovered(content, before.name, before.uid)
    changed = {name for name in CollectionState.model_fields if getattr(after, name) != getattr(before, name)}
    assert changed == {"status", "restored"}


def test_its_name_may_be_a_snapshot_s() -> None:
    check_name(snapshot_name(1.5, "a1b2c3"))
