"""What became of each test of a run, and where two runs differ.

A run is read from the JUnit file that pytest writes. An error in a fixture counts as a failure; why a test failed is kept for
the reader and never compared, since a server can't raise what an in-process mode does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

FAILING_TAGS = ("failure", "error")
REASON_LENGTH_MAX = 110


@dataclass(frozen=True)
class Outcome:
    """`kind` is passed, failed or skipped; `reason` the first line that pytest says of it, cut short."""

    kind: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" if self.reason else self.kind


@dataclass(frozen=True)
class Pair:
    """One test in two runs. None where a run does not have it."""

    suite: str
    test: str
    one: Outcome | None
    other: Outcome | None
    known: str = ""
    """Why the outcomes have to differ; empty where they must not."""

    @property
    def is_right(self) -> bool:
        """Whether the outcomes are alike, or differ where that is known."""
        return self.is_alike is not bool(self.known)

    @property
    def is_alike(self) -> bool:
        """Whether both runs have it, with the same kind of outcome."""
        return self.one is not None and self.other is not None and self.one.kind == self.other.kind


Run = Mapping[tuple[str, str], Outcome]
"""By suite (its class, or its file where it has none) and test."""


def read_run(path: Path) -> dict[tuple[str, str], Outcome]:
    """The outcomes of a JUnit file. Raises ElementTree.ParseError where it is none, ValueError where a test comes twice."""
    run: dict[tuple[str, str], Outcome] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        key = case.attrib["classname"].rsplit(".", 1)[-1], case.attrib["name"]
        outcome = _outcome(case)
        # A test whose fixture fails when it ends stands in the file once for each; the failure counts.
        if key in run and outcome.kind == run[key].kind:
            raise ValueError(f"{path} has {key} twice: two suites need two names")
        if key not in run or outcome.kind == "failed":
            run[key] = outcome
    return run


def compare(one: Run, other: Run, known: Mapping[tuple[str, str], str]) -> list[Pair]:
    """Every test of either, in the first run's order, then what the second has beyond it. `known` says why some differ."""
    keys = dict.fromkeys([*one, *other])
    return [Pair(*key, one.get(key), other.get(key), known.get(key, "")) for key in keys]


def table(pairs: Iterable[Pair], names: tuple[str, str]) -> str:
    """The counts of each suite, then every test that does not pass in both runs, with both outcomes; what is wrong last."""
    pairs = list(pairs)
    suites = dict.fromkeys(pair.suite for pair in pairs)
    lines = [_row("suite", "tests", "pass", "fail", "skipped", "differ")]
    lines += [_counts(suite, [pair for pair in pairs if pair.suite == suite]) for suite in suites]
    lines.append(_counts("all", pairs))
    sections = {
        "Not passed by either:": [
            pair for pair in pairs if pair.is_alike and not _is(pair, "passed") and not pair.known
        ],
        "Different, as is known:": [pair for pair in pairs if pair.is_right and pair.known],
        "DIFFERENT:": [pair for pair in pairs if not pair.is_right and not pair.known],
        "ALIKE, where known.py says that they differ:": [pair for pair in pairs if not pair.is_right and pair.known],
    }
    for heading, told in sections.items():
        if told:
            lines += ["", heading, *(line for pair in told for line in _told(pair, names))]
    return "\n".join(lines)


def _told(pair: Pair, names: tuple[str, str]) -> list[str]:
    both = zip(names, (pair.one, pair.other), strict=True)
    why = [f"    why       {pair.known}"] if pair.known else []
    return [f"  {pair.suite}::{pair.test}", *(f"    {name:9} {outcome or 'not run'}" for name, outcome in both), *why]


def _outcome(case: ElementTree.Element) -> Outcome:
    for found in case:
        if found.tag in FAILING_TAGS or found.tag == "skipped":
            said = (found.get("message") or "").strip().splitlines() or [""]
            return Outcome("skipped" if found.tag == "skipped" else "failed", said[0][:REASON_LENGTH_MAX])
    return Outcome("passed")


def _is(pair: Pair, kind: str) -> bool:
    return pair.is_alike and pair.one is not None and pair.one.kind == kind


def _counts(name: str, pairs: list[Pair]) -> str:
    alike = (sum(_is(pair, kind) for pair in pairs) for kind in ("passed", "failed", "skipped"))
    return _row(name, len(pairs), *alike, sum(not pair.is_alike for pair in pairs))


def _row(name: str, *cells: object) -> str:
    return f"{name:28}" + "".join(f"{cell!s:>9}" for cell in cells)
