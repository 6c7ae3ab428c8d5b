"""A few hundred of the mutants that `python -m tests.simulation.damage` makes by the ten thousand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest.mock import patch

from shards.verify import Severity
from tests.simulation import damage

MUTANTS = 250


def test_a_damaged_shard_is_right_or_refuses(tmp_path: Path) -> None:
    with patch("os.fsync"):  # no power is cut here
        shards = damage.shards_of(tmp_path / "good")
        for shard in shards:
            found = damage.verify_shard_of(shard.folder).findings
            assert {finding.severity for finding in found} <= {Severity.NOTE}, found
        outcomes: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        for seed in range(MUTANTS):
            change, outcome = damage.run(seed, shards, tmp_path)
            outcomes[outcome] += 1
            kinds[change.kind] += 1
    print(f"seeds 0 to {MUTANTS - 1}: {dict(kinds)}, {dict(outcomes)}")
    assert set(kinds) == {"flip", "zero", "cut", "grow", "remove", "swap"}
    assert {"refused: Corrupt", "refused: ShardUnavailable", "refused: the shard", "snapshot refused"} <= set(
        outcomes
    )
    assert {"without graph or order", "older manifest", "tail cut, and said so"} <= set(outcomes)


def test_a_good_shard_has_nothing_to_note(tmp_path: Path) -> None:
    shard = damage.shards_of(tmp_path)[0]
    found = damage.verify_shard_of(shard.folder)
    assert found.findings == []
    assert found.file_count == len(shard.files)
    assert found.byte_count == sum((shard.folder / path).stat().st_size for path in shard.files)
