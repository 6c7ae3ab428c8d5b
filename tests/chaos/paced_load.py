"""Searches over many connections at once: each sends at its own pace, or at once when it has its answer.

Raw HTTP over asyncio streams, so that the load generator takes little of the machine that it measures. Latency counts
from the moment of sending.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.http_client import TIMEOUT_S


@dataclass
class Sample:
    """One answer: when it came (seconds since the load began), how long it took, what it was."""

    at_s: float
    latency_s: float
    status: int


@dataclass
class Load:
    """What came of a load. `bad`: answers that are neither a success nor a refusal as it should be, with the first one."""

    samples: list[Sample] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    degraded: int = 0
    bad: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def accepted(self) -> list[Sample]:
        """Answered with 200."""
        return [sample for sample in self.samples if sample.status == 200]

    @property
    def refused(self) -> int:
        """Answered with 429 or 503."""
        return self.statuses[429] + self.statuses[503]

    @property
    def rate(self) -> float:
        """Accepted per second."""
        return self.statuses[200] / self.elapsed_s

    @property
    def offered(self) -> float:
        """Sent per second."""
        return self.statuses.total() / self.elapsed_s

    def p99_s(self, first_s: float = 0.0, last_s: float = float("inf")) -> float:
        """Of those accepted that were answered within this time; NaN without any."""
        found = sorted(sample.latency_s for sample in self.accepted if first_s <= sample.at_s < last_s)
        return found[int(0.99 * len(found))] if found else float("nan")


@dataclass(frozen=True)
class Pace:
    """`rate`: requests a second of all connections together; None: each sends as soon as it has its answer."""

    connections: int
    seconds: float
    rate: float | None = None


def drive(url: str, path: str, bodies: Sequence[bytes], pace: Pace) -> Load:
    """Load for some seconds."""
    return asyncio.run(_drive(url, path, bodies, pace))


async def _drive(url: str, path: str, bodies: Sequence[bytes], pace: Pace) -> Load:
    parts = urlsplit(url)
    requests = [_request(path, body) for body in bodies]
    load = Load()
    streams = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(pace.connections)]
    began = time.perf_counter()
    try:
        async with asyncio.timeout(pace.seconds + TIMEOUT_S), asyncio.TaskGroup() as group:
            for number, stream in enumerate(streams):
                group.create_task(_client(stream, requests[number:] + requests[:number], load, (began, number, pace)))
    finally:
        for _, writer in streams:
            writer.close()
    load.elapsed_s = time.perf_counter() - began
    return load


async def _client(
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    requests: Sequence[bytes],
    load: Load,
    when: tuple[float, int, Pace],
) -> None:
    reader, writer = stream
    began, number, pace = when
    period_s = 0.0 if pace.rate is None else pace.connections / pace.rate
    due_at = began + period_s * number / pace.connections
    turn = 0
    while max(due_at, time.perf_counter()) < began + pace.seconds:
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        sent_at = time.perf_counter()
        writer.write(requests[turn % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:-2])
        }
        body = await reader.readexactly(int(headers[b"content-length"]))
        status = int(head[9:12])
        now = time.perf_counter()
        load.samples.append(Sample(now - began, now - sent_at, status))
        load.statuses[status] += 1
        load.degraded += b'"degraded"' in body
        if status != 200 and (status not in (429, 503) or not headers.get(b"retry-after", b"").isdigit()):
            load.bad.append(f"{head!r} {body[:200]!r}")
        turn += 1
        due_at = max(due_at + period_s, now - period_s)


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: cluster\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
