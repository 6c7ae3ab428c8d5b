"""`shoal verify`: whether everything on a data folder's disk is still what was written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from deployments.commands.options import DataOption, JsonOption, read_settings
from deployments.terminal import ERROR, print_json

if TYPE_CHECKING:
    from shards.verify import Verification


def verify(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Check every file of a data folder against its checksums.

    Reads everything, changes nothing, and needs the cluster to be down.

    \b
    What it finds is
      lost        `shoal up` would refuse this part: it says what to restore
      repairable  `shoal up` goes on, with right answers, and mends it
      note        a leftover that does no harm

    The exit code is 0 if nothing is lost, else 1. Damage of any kind may mean a failing disk.

    \b
    Examples:
      shoal verify
      shoal verify --data ./other --json
    """
    from deployments.verification import verify_folder
    from shards.verify import Severity

    folder = read_settings(data).data_folder.absolute()
    started = perf_counter()
    found = verify_folder(folder)
    elapsed_s = perf_counter() - started
    lost = any(finding.severity is Severity.LOST for finding in found.findings)
    if as_json:
        _print_json(found, folder, elapsed_s, not lost)
    else:
        _print(found, folder, elapsed_s)
    if lost:
        raise typer.Exit(ERROR)


def _print_json(found: Verification, folder: Path, elapsed_s: float, ok: bool) -> None:
    findings = [
        {"path": str(item.path), "severity": item.severity.value, "what": item.what, "advice": item.advice}
        for item in found.findings
    ]
    print_json({
        "data_folder": str(folder),
        "ok": ok,
        "files": found.file_count,
        "bytes": found.byte_count,
        "seconds": round(elapsed_s, 3),
        "findings": findings,
    })  # fmt: skip


def _print(found: Verification, folder: Path, elapsed_s: float) -> None:
    worst_first = ["lost", "repairable", "note"]
    for finding in sorted(found.findings, key=lambda finding: worst_first.index(finding.severity)):
        path = finding.path.relative_to(folder) if finding.path.is_relative_to(folder) else finding.path
        print(f"{finding.severity.value}: {path}")
        print(f"    {finding.what}")
        print(f"    {finding.advice}")
    counts = Counter(finding.severity.value for finding in found.findings)
    told = ", ".join(f"{counts[severity]} {severity}" for severity in worst_first if counts[severity])
    size = f"{found.file_count:,} files, {found.byte_count / 1e6:,.1f} MB"
    print(f"checked {size} in {folder} ({elapsed_s:.1f} s): {told or 'all is well'}")
