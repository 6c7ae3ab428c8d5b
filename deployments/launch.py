"""What a cluster is started with, and what it tells while it starts.

`up` writes the order to the guardian's standard input, and the guardian hands it on to the head process in the same way. The
answer comes back as JSON lines on the guardian's standard output, which the head inherits: any number of phases, then
`ready` or `failed`. The end of the lines without either means that the processes died.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

PACKAGES_FOLDER = Path(__file__).resolve().parents[1]
"""Where `shards`, `cluster` and `deployments` lie: on the path of every process of the cluster."""

RAY_FOLDER = "ray"
"""In the run's folder. Ray opens its own to everybody (mode 777), so it must not be the run's folder itself."""

Kind = Literal["phase", "ready", "failed"]


@dataclass(frozen=True)
class Order:
    """`application` is the import path of a function that builds the Serve application from AppArgs."""

    data_folder: str
    run_folder: str
    log_file: str
    url: str
    application: str
    http_port: int
    start_timeout_s: float
    app_args: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_stdin(cls) -> Order:
        return cls(**json.load(sys.stdin))


@dataclass(frozen=True)
class Event:
    """`text` is for a person: a phase's name, or why it failed."""

    kind: Kind
    text: str = ""


def tell(to: IO[str], event: Event) -> None:
    """Send an event. Nobody may be listening any more: `up` may have been interrupted."""
    try:
        to.write(json.dumps(asdict(event)) + "\n")
        to.flush()
    except BrokenPipeError:
        pass


def hear(line: bytes) -> Event:
    return Event(**json.loads(line))


def take_stdout() -> IO[str]:
    """Standard output for events alone: whatever else prints goes to standard error, the cluster's log, from now on."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return events
