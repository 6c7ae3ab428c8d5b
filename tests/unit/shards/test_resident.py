"""What the system says is resident: grows with the heap, and is None where it says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.resident import ROLLUP, Resident, read_resident

TEXT = """5581e7a3f000-7ffd2f5f8000 ---p 00000000 00:00 0                          [rollup]
Rss:                1756 kB
Pss_Anon:            999 kB
Anonymous:           116 kB
Swap:                  0 kB
"""


def test_anonymous_and_mapped_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "rollup").write_text(TEXT)
    assert read_resident(tmp_path / "rollup") == Resident(116 * 1024, 1640 * 1024)


@pytest.mark.parametrize("text", [None, "", "Rss: 5 kB\n", "something else\n"])
def test_a_system_without_the_figures_says_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "rollup").write_text(text)
    assert read_resident(tmp_path / "rollup") is None


@pytest.mark.skipif(not ROLLUP.exists(), reason="this system has no such file")
def test_this_process_grows_by_what_it_touches() -> None:
    before = read_resident()
    held = np.ones(32 * 2**20, np.uint8)
    after = read_resident()
    assert before is not None
    assert after is not None
    assert held.nbytes <= after.anonymous_bytes - before.anonymous_bytes + 2**21
    assert after.to_json().keys() == {"anonymous_bytes", "mapped_bytes"}
