"""What routers write to `logs/routers.log` in the data folder, one line each, as text or as JSON.

All routers of a machine append to one file, a line at a time. When a router starts and the file is larger than
FILE_BYTES_MAX, it becomes `routers.log.1`; whoever rotates it otherwise may (it is opened again where it was moved).
(Ray Serve takes a replica's standard error for itself and drops what is below its level, so that is no way out.)

A line is about something that happened: a failure, a slow request, readiness that changed. There is none for each
request: that would cost a router 6 % of its rate, and /metrics counts them. A line about a request carries its id: what
the client gave as `x-request-id` (up to 128 letters, digits and `._:/+=-`), else one that is made here. The reply carries
it too, where the client gave it or a line was written. Shards are not told: a frame on their sockets has no room for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from cluster.search_times import PHASES, phase_seconds
from deployments.http_message import Headers, Reply, Request, header_of
from deployments.log_settings import LogSettings

LOG_FILE = "logs/routers.log"
FILE_BYTES_MAX = 64 * 1024 * 1024
SLOW_LINES_PER_S = 10
"""Of one router; the next line says how many were left out. An overload makes every request slow."""
PACKAGES = ("cluster", "deployments")
ID_HEADER = b"x-request-id"
_GOOD_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

_log = logging.getLogger(__name__)


def given_id(headers: Headers) -> str:
    """The request id that a client gave; "" where it gave none that can be used."""
    value = header_of(headers, ID_HEADER)
    return value.decode("ascii") if value and _GOOD_ID.fullmatch(value) else ""


def with_id(reply: Reply, request_id: str) -> Reply:
    """The reply with the id in its headers, once."""
    if any(name == ID_HEADER for name, _ in reply.headers):
        return reply
    return replace(reply, headers=(*reply.headers, (ID_HEADER, request_id.encode())))


class RequestLog:
    """Ids of one router's requests, and the lines about slow ones."""

    def __init__(self, settings: LogSettings, router: str) -> None:
        self._slow_s = float("inf") if settings.slow_ms is None else settings.slow_ms / 1000
        self._router = router
        self._numbers = count(1)
        self._second = 0
        self._told_count = 0
        self._untold_count = 0

    def id_for(self, headers: Headers) -> str:
        """The id given, else a new one that no other request of any router has."""
        return given_id(headers) or f"{self._router}-{next(self._numbers)}"

    def finish(self, request: Request, reply: Reply, route: str, ended: float) -> Reply:
        """The reply is made: log it where it took long. With the id where it belongs. `ended`: a perf_counter value."""
        seconds = ended - request.started
        if seconds >= self._slow_s and self._may_tell(ended):
            request_id = self.id_for(request.headers)
            self._tell_slow(request, reply, (route, request_id), ended)
        else:
            request_id = given_id(request.headers)
        return reply if not request_id else with_id(reply, request_id)

    def _may_tell(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._told_count = int(now), 0
        self._told_count += 1
        if self._told_count <= SLOW_LINES_PER_S:
            return True
        self._untold_count += 1
        return False

    def _tell_slow(self, request: Request, reply: Reply, who: tuple[str, str], ended: float) -> None:
        route, request_id = who
        fields: dict[str, Any] = {
            "request_id": request_id,
            "route": route,
            "status": reply.status,
            "ms": round((ended - request.started) * 1000, 3),
        }
        if self._untold_count:
            fields["slow_requests_untold"], self._untold_count = self._untold_count, 0
        if request.collection.name:
            fields["collection"] = request.collection.name
        if request.times is not None:
            phases = phase_seconds(request.started, request.times, ended, request.waited_s)
            fields |= {f"{name}_ms": round(spent * 1000, 3) for name, spent in zip(PHASES, phases, strict=True)}
        _log.warning("slow request", extra={"fields": fields})


def start_log(data_folder: Path, settings: LogSettings, router: str) -> logging.Handler:
    """Have this process's lines go to the file, from INFO on. The handler, for whoever wants to end it."""
    file = data_folder / LOG_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size > FILE_BYTES_MAX:
        os.replace(file, file.with_name(file.name + ".1"))
    handler = WatchedFileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(LineFormatter(settings.format, router))
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    return handler


class LineFormatter(logging.Formatter):
    """A record as one line; `fields` of its `extra` are told as keys and values."""

    def __init__(self, form: str, router: str) -> None:
        super().__init__()
        self._is_json = form == "json"
        self._router = router

    def format(self, record: logging.LogRecord) -> str:
        """Without a newline, also where there is a trace."""
        fields = {"router": self._router, **getattr(record, "fields", {})}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        if self._is_json:
            head = {"time": when, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
            return json.dumps({**head, **fields}, default=str)
        told = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
        return f"{when} {record.levelname} {record.name} {_one_line(record.getMessage())} {told}"


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & {" ", '"', "="} else json.dumps(text)


def _one_line(text: str) -> str:
    """A client's text may be quoted in it: no line of a log may be made by a client."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
