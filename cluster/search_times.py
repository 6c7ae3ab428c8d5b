"""When a search was where: the moments that its phases lie between. Pure: moments come in as numbers.

All are seconds of one monotonic clock (`time.perf_counter`). Searches that leave together (cluster/batching.py) share all
of them but `entered`. Phases follow each other without a gap, so they add up to the whole:

    parse    request's headers here -> `entered`     body, JSON, checks, kept answers, the vector made ready
    queue    entered -> `left`                       waiting for a search like it that is on its way; and, out of parse,
                                                     what the request stood in line before (deployments/admission.py)
    scatter  left -> `sent`                          the message made and handed to each shard's socket
    gather   sent -> `answered`                      until the last shard's answer is decoded
    merge    answered -> `merged`                    one list for each query out of all shards'
    encode   merged -> the reply is made             scores, payloads, JSON
"""

from __future__ import annotations

from typing import NamedTuple

PHASES = ("parse", "queue", "scatter", "gather", "merge", "encode")


class FanOutTimes:
    """Filled while a request goes to several shards. `shards`: (shard id, when its answer came), as they came."""

    __slots__ = ("began", "sent", "shards")

    def __init__(self, began: float) -> None:
        self.began = began
        self.sent = began
        self.shards: list[tuple[int, float]] = []


class SearchTimes(NamedTuple):
    """See the module."""

    entered: float
    fan_out: FanOutTimes
    answered: float
    merged: float


def phase_seconds(started: float, times: SearchTimes, ended: float, in_line_s: float = 0.0) -> tuple[float, ...]:
    """How long each of PHASES took, in their order. `in_line_s`: of the time before `entered`, what it stood in line."""
    entered, fan_out, answered, merged = times
    began, sent = fan_out.began, fan_out.sent
    parse = entered - started - in_line_s
    return (parse, began - entered + in_line_s, sent - began, answered - sent, merged - answered, ended - merged)
