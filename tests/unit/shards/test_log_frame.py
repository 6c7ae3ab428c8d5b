"""Frames: what is written is read back, and nothing else is taken for a frame."""

from __future__ import annotations

import struct

import google_crc32c
import pytest

from shards.log_frame import BadFrame, LogOp, OpKind, decode_frame, encode_frame, find_frames

OPS = (
    LogOp(OpKind.UPSERT, b"a" * 16, b"five!"),
    LogOp(OpKind.DELETE, b"b" * 16, b""),
    LogOp(OpKind.ATTACH, b"c" * 16, b"exactly8"),
)
FRAME = encode_frame(OPS, epoch=7, first_lsn=41, durable_lsn=40)


def with_checksum(frame: bytes) -> bytes:
    return frame[:4] + google_crc32c.value(frame[8:]).to_bytes(4, "little") + frame[8:]


def test_round_trip_between_other_bytes() -> None:
    frame = decode_frame(memoryview(b"before" + FRAME + b"behind"), 6)
    assert [(op.kind, op.op_id, bytes(op.body)) for op in frame.ops] == [(op.kind, op.op_id, op.body) for op in OPS]
    assert (frame.epoch, frame.first_lsn, frame.last_lsn, frame.durable_lsn) == (7, 41, 43, 40)
    assert frame.end == 6 + len(FRAME)


def test_layout_is_the_documented_one() -> None:
    magic, _, body_bytes, count, epoch, first, durable = struct.unpack_from("<4sIIIQQQ", FRAME)
    assert (magic, count, epoch, first, durable) == (b"SHL1", 3, 7, 41, 40)
    assert len(FRAME) == 40 + body_bytes
    assert FRAME[40:80] == struct.pack("<B7xQ16s", 1, 5, b"a" * 16) + b"five!\0\0\0"


@pytest.mark.parametrize("length", range(len(FRAME)))
def test_a_frame_cut_anywhere_is_bad(length: int) -> None:
    with pytest.raises(BadFrame):
        decode_frame(memoryview(FRAME[:length]), 0)


def test_a_frame_with_any_bit_flipped_is_bad() -> None:
    for place in range(len(FRAME)):
        for bit in (1, 128):
            damaged = bytearray(FRAME)
            damaged[place] ^= bit
            with pytest.raises(BadFrame):
                decode_frame(memoryview(bytes(damaged)), 0)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (12, b"\x04\0\0\0", "4 ops"),  # op count
        (12, b"\x02\0\0\0", "behind its 2 ops"),
        (40, b"\x09", "kind 9"),
        (48, b"\xff" * 8, "bytes"),  # the first op's length
    ],
)
def test_a_writers_contradiction_is_bad_although_the_checksum_holds(offset: int, value: bytes, reason: str) -> None:
    wrong = with_checksum(FRAME[:offset] + value + FRAME[offset + len(value) :])
    with pytest.raises(BadFrame, match=reason):
        decode_frame(memoryview(wrong), 0)


def test_good_frames_are_found_behind_damage_and_false_magic() -> None:
    content = memoryview(FRAME[:20] + b"SHL1" + b"SHL1 and more" + FRAME + b"stray" + FRAME)
    last = len(content) - len(FRAME)
    assert [frame.end for frame in find_frames(content, 0)] == [last - 5, len(content)]
    assert [frame.end for frame in find_frames(content, last)] == [len(content)]
    assert list(find_frames(content, last + 1)) == []
