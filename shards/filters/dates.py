"""Dates and times as text: RFC 3339, and the spellings near it that clients write.

    2024-05-17T12:30:00.25+02:00    a space for the T, a space before the offset, `Z`, `z`, ` UTC`, `+0200`, `+02`
    2024-05-17T12:30:00  2024-05-17T12:30  2024-05-17    without an offset: UTC

An instant is an int: microseconds since 1970-01-01 UTC. What is finer than a microsecond is cut off.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(
    r"\s*(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d+))?(?: ?(?:([Zz]|(?<= )UTC)|([+-])(\d\d)(?::?([0-5]\d))?))?)?)?",
    re.ASCII,
)


def instant(text: str) -> int | None:
    """Microseconds since 1970, or None where `text` is no date."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    micros = int((fraction or "")[:6].ljust(6, "0"))
    try:
        local = datetime(
            *(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros), tzinfo=UTC
        )
    except ValueError:  # a 31st of February, an hour 25
        return None
    since = (local - _EPOCH) // _MICROSECOND
    if sign is None:
        return since
    if int(offset_hours) > 23:
        return None
    shift = (int(offset_hours) * 3600 + int(offset_minutes or 0) * 60) * 1_000_000
    return since - shift if sign == "+" else since + shift
