"""Which kind of process used how much of a core, from /proc: where the time of a run went."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

DAEMONS = "ray daemons"
LOAD = "wrk"
_KINDS = (
    ("ray::ServeReplica", "router"),
    ("ray::ShardActor", "shards"),
    ("haproxy_wrapper", "haproxy"),
    ("haproxy", "haproxy"),
    ("ray::Supervisor", "supervisor"),
    ("Agent", DAEMONS),
    ("ray::", "serve"),
    ("deployments.", "head"),
)
"""What a command line holds, and whose it is then; the first that fits counts. `serve`: its controller and HAProxy
manager.
"""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Snapshot:
    """Seconds of CPU that each process has used so far, with its kind, and when that was."""

    at: float
    used_s: Mapping[int, tuple[str, float]]


def take(pids: Iterable[int]) -> Snapshot:
    """Read /proc for these processes; those that are gone are left out."""
    used = {}
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        used[pid] = (kind_of(command), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)
    return Snapshot(monotonic(), used)


def kind_of(command: str) -> str:
    """Whose process it is, by its command line."""
    return next((kind for part, kind in _KINDS if part in command), DAEMONS)


def shares(before: Snapshot, after: Snapshot, load_s: float) -> dict[str, float]:
    """Cores used in between, by kind, the largest first. `load_s`: what the load generator used, which has ended
    since.
    """
    elapsed_s = after.at - before.at
    total: dict[str, float] = defaultdict(float)
    for pid, (kind, used_s) in after.used_s.items():
        total[kind] += used_s - before.used_s.get(pid, (kind, used_s))[1]
    total[LOAD] += load_s
    return {kind: used / elapsed_s for kind, used in sorted(total.items(), key=lambda item: -item[1])}


def in_words(found: Mapping[str, float]) -> str:
    """`router 0.91, shards 0.52, ... of a core`."""
    parts = [f"{kind} {share:.2f}" for kind, share in found.items() if share >= 0.005]
    return ", ".join(parts) + " cores"
