"""Dates: every spelling that is read, what it means, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from qdrant_client.local.datetime_utils import parse as oracle

from shards.filters.dates import instant

NOON = int(datetime(2024, 5, 17, 12, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2024-05-17T12:00:00Z", 0),
        ("2024-05-17T12:00:00z", 0),
        ("2024-05-17t12:00:00Z", 0),
        ("2024-05-17 12:00:00", 0),
        (" \t2024-05-17 12:00:00", 0),
        ("2024-05-17T12:00", 0),
        ("2024-05-17T12:00:00 UTC", 0),
        ("2024-05-17T12:00:00.5", 500_000),
        ("2024-05-17T12:00:00.0000019Z", 1),
        ("2024-05-17T14:30:00+02:30", 0),
        ("2024-05-17T14:30:00 +0230", 0),
        ("2024-05-17T10:00:00-02", 0),
        ("2024-05-17", -12 * 3600 * 1_000_000),
        ("2024-5-7", -(10 * 24 + 12) * 3600 * 1_000_000),
    ],
)
def test_a_date_is_an_instant(text: str, micros: int) -> None:
    assert instant(text) == NOON + micros
    assert instant(text) == _oracle_micros(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "1969-12-31"])
def test_far_away_dates(text: str) -> None:
    assert instant(text) == _oracle_micros(text)


@pytest.mark.parametrize(
    "text",
    *[["", "2024", "2024-05", "2024-02-30", "2024-13-01", "0000-01-01", "24-05-17", "2024-05-17T", "2024-05-17T12",
       "2024-05-17T24:00:00", "2024-05-17T12:60", "2024-05-17T12:00:60Z", "2024-05-17T12:00:00.Z", "2024-05-17T12:00Z",
       "2024-05-17T12:00+02:00", "2024-05-17Z", "2024-05-17T12:00:00+24:00", "2024-05-17T12:00:00+02:60",
       "2024-05-17T12:00:00+2", "2024-05-17T12:00:00UTC", "2024-05-17T12:00:00Z ", "17.05.2024", "2024-05-17T12:00:00Z\n",
       "20240517", "1715947200", "noon"]],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    assert instant(text) is None
    assert oracle(text) is None


def _oracle_micros(text: str) -> int:
    found = oracle(text)
    assert found is not None
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
