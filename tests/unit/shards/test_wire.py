"""Frames: however a stream is cut into pieces, the same frames come out; what is no frame ends the connection."""

from __future__ import annotations

import pytest

from shards.errors import Corrupt, LimitExceeded, QueueFull
from shards.wire import HEADER_BYTES, FrameReader, Kind, decode_error, encode_error, encode_frame

FRAMES = [(Kind.PING, 1, 0, b""), (Kind.SEARCH, 2**60, 250, b"abc"), (Kind.HITS, 3, 0, bytes(40))]


def stream() -> bytes:
    return b"".join(
        b"".join(encode_frame(kind, request_id, [body[:1], body[1:]], deadline_ms))
        for kind, request_id, deadline_ms, body in FRAMES
    )


def read(pieces: list[bytes]) -> list[tuple[Kind, int, int, bytes]]:
    reader = FrameReader(1000)
    frames = [frame for piece in pieces for frame in reader.feed(piece)]
    return [(frame.kind, frame.request_id, frame.deadline_ms, bytes(frame.body)) for frame in frames]


def test_a_stream_cut_at_any_two_places_gives_the_same_frames() -> None:
    whole = stream()
    for first in range(len(whole) + 1):
        for second in range(first, len(whole) + 1, 7):
            assert read([whole[:first], whole[first:second], whole[second:]]) == FRAMES


def test_a_stream_byte_by_byte() -> None:
    assert read([stream()[at : at + 1] for at in range(len(stream()))]) == FRAMES


def test_a_frame_over_the_limit_is_refused_before_its_body_arrives() -> None:
    head = b"".join(encode_frame(Kind.SEARCH, 1, [bytes(1001)]))[:HEADER_BYTES]
    with pytest.raises(LimitExceeded, match="1001"):
        FrameReader(1000).feed(head)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Corrupt, match="kind"):
        FrameReader(1000).feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n")


def test_an_error_travels_with_its_kind_and_its_advice() -> None:
    error = decode_error(encode_error(QueueFull("full", 1.5)))
    assert type(error) is QueueFull
    assert (error.message, error.retry_after_s) == ("full", 1.5)
