"""Runs are read and compared; a difference of any kind is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suites.outcomes import Outcome, compare, read_run, table

RUN = """<testsuites><testsuite>
<testcase classname="haystack_suite.TestHaystack" name="test_a" time="0.1"/>
<testcase classname="haystack_suite.TestHaystack" name="test_b"><failure message="assert 1 == 2&#10;more"/></testcase>
<testcase classname="mem0_suite" name="test_a"><skipped message="why"/></testcase>
<testcase classname="mem0_suite" name="test_c"/>
<testcase classname="mem0_suite" name="test_c"><error message="at its end"/></testcase>
</testsuite></testsuites>"""
PASSED = Outcome("passed")
READ = {
    ("TestHaystack", "test_a"): PASSED,
    ("TestHaystack", "test_b"): Outcome("failed", "assert 1 == 2"),
    ("mem0_suite", "test_a"): Outcome("skipped", "why"),
    ("mem0_suite", "test_c"): Outcome("failed", "at its end"),
}


def test_a_run_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.xml"
    path.write_text(RUN)
    assert read_run(path) == READ
    path.write_text(RUN.replace('name="test_c"', 'name="test_d"').replace("<error", "<other"))
    with pytest.raises(ValueError, match="twice"):
        read_run(path)


@pytest.mark.parametrize(
    ("other", "different"),
    [
        (READ, []),
        ({**READ, ("TestHaystack", "test_b"): Outcome("failed", "another reason")}, []),
        ({**READ, ("TestHaystack", "test_b"): PASSED}, ["test_b"]),
        ({**READ, ("mem0_suite", "test_a"): PASSED}, ["test_a"]),
        ({**READ, ("mem0_suite", "test_d"): PASSED}, ["test_d"]),
        ({}, ["test_a", "test_b", "test_a", "test_c"]),
    ],
)
def test_runs_are_compared(other: dict[tuple[str, str], Outcome], different: list[str]) -> None:
    pairs = compare(READ, other, {})
    assert [pair.test for pair in pairs if not pair.is_alike] == different


def test_the_table_counts_and_names() -> None:
    other = {**READ, ("mem0_suite", "test_c"): PASSED}
    lines = table(compare(READ, other, {}), ("memory", "shoal")).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["suite", "tests", "pass", "fail", "skipped", "differ"],
        ["TestHaystack", "2", "1", "1", "0", "0"],
        ["mem0_suite", "2", "0", "0", "1", "1"],
        ["all", "4", "1", "1", "1", "1"],
    ]
    assert lines[-4:] == [
        "DIFFERENT:",
        "  mem0_suite::test_c",
        "    memory    failed: at its end",
        "    shoal     passed",
    ]
    assert "DIFFERENT" not in table(compare(READ, READ, {}), ("memory", "shoal"))


def test_a_known_difference_has_to_be_one() -> None:
    key = ("mem0_suite", "test_c")
    pairs = compare(READ, {**READ, key: PASSED}, {key: "the other is odd"})
    assert all(pair.is_right for pair in pairs)
    shown = table(pairs, ("memory", "shoal"))
    assert shown.splitlines()[-2:] == ["    shoal     passed", "    why       the other is odd"]
    assert "DIFFERENT" not in shown
    pairs = compare(READ, READ, {key: "the other is odd"})
    assert [pair.test for pair in pairs if not pair.is_right] == ["test_c"]
    assert "ALIKE, where known.py" in table(pairs, ("memory", "shoal"))
