"""The load generator: wrk, one thread, a number of kept connections, each with one request on the way.

It costs a tenth of a core at most, and the benchmark's own process only waits: with two cores, whatever measures
takes from what is measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from threading import Timer

SCRIPT = Path(__file__).with_name("wrk.lua")
PATIENCE_S = 30.0
ERROR_KINDS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Target:
    """Where requests go, and the file of their bodies, one a line."""

    url: str
    path: str
    bodies: Path


@dataclass(frozen=True)
class Outcome:
    """One run, or the typical one of several. `errors`: answers that are no success, broken connections, requests
    over wrk's 2 s.
    """

    requests: int
    duration_s: float
    received_bytes: int
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Successes and failures per second: read it with `errors`."""
        return self.requests / self.duration_s


def check_installed() -> None:
    """End with a sentence where wrk is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit(
            "The benchmarks over HTTP need wrk, which was not found (Debian, Ubuntu: apt-get install wrk)."
        )


def run(target: Target, connections: int, seconds: float) -> Outcome:
    """Load for some seconds."""
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"),
        *("--latency", "--script", str(SCRIPT), target.url, "--", target.path, str(target.bodies)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    watchdog = Timer(seconds + PATIENCE_S, process.kill)
    watchdog.start()
    output = process.stdout.read()
    # Not the usage of all children: those of an earlier cluster may be among them.
    _, status, usage = os.wait4(process.pid, 0)
    watchdog.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"wrk failed: {output.strip()[-500:]}")
    return replace(parse(output), cpu_s=usage.ru_utime + usage.ru_stime)


def parse(output: str) -> Outcome:
    """What the script's `done` wrote, the last line that is JSON."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"wrk gave no result: {output.strip()[-500:]}")
    found = json.loads(lines[-1])
    return Outcome(
        requests=found["requests"],
        duration_s=found["duration_us"] / 1e6,
        received_bytes=found["bytes"],
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        errors=sum(found[kind] for kind in ERROR_KINDS),
    )


def typical(outcomes: Sequence[Outcome]) -> Outcome:
    """The medians of several runs, and the sum of their errors."""
    duration_s = median(outcome.duration_s for outcome in outcomes)
    return Outcome(
        requests=round(median(outcome.rate for outcome in outcomes) * duration_s),
        duration_s=duration_s,
        received_bytes=round(median(outcome.received_bytes for outcome in outcomes)),
        p50_ms=median(outcome.p50_ms for outcome in outcomes),
        p99_ms=median(outcome.p99_ms for outcome in outcomes),
        errors=sum(outcome.errors for outcome in outcomes),
        cpu_s=median(outcome.cpu_s for outcome in outcomes),
    )
