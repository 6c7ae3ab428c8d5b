"""Counts of changes: what covers what, slots by a field's texts, and what becomes of a probe on its way."""

from __future__ import annotations

import pytest

from shards.errors import Corrupt
from shards.generations import (
    NO_STAMP,
    Asked,
    Generations,
    Stamp,
    decode_asked,
    decode_stamps,
    encode_asked,
    encode_stamps,
)

UID = bytes(range(16))


def test_a_stamp_covers_until_something_moves() -> None:
    generations = Generations(7)
    stamp = generations.stamp
    assert stamp.covers(generations.stamp)
    generations.move_layout()
    assert stamp.covers(generations.stamp)
    assert stamp != generations.stamp, "an approximate search may find other neighbours now"
    generations.move()
    assert not stamp.covers(generations.stamp)
    assert generations.stamp.covers(stamp), "an answer that is newer than the probe is good, too"


def test_lives_never_cover_each_other_and_no_stamp_covers_nothing() -> None:
    assert not Generations(7).stamp.covers(Generations(8).stamp)
    assert not NO_STAMP.covers(NO_STAMP)


def test_a_slot_moves_alone() -> None:
    generations = Generations(7)
    generations.move()
    generations.stamp_of("who", [1])
    stamp = generations.stamp
    generations.move([2, 4095])
    assert stamp.covers(generations.stamp_of("who", [1, 3]))
    assert not stamp.covers(generations.stamp_of("who", [1, 2]))
    assert not stamp.covers(generations.stamp)
    generations.move()
    assert not stamp.covers(generations.stamp_of("who", [1]))


def test_what_happened_before_a_field_was_asked_for_counts_for_all_of_its_slots() -> None:
    generations = Generations(7)
    generations.stamp_of("who", [1])
    early = generations.stamp
    generations.move([2])
    assert not early.covers(generations.stamp_of("other", [1]))
    late = generations.stamp
    assert not early.covers(generations.stamp_of("who", [1]))
    assert late.covers(generations.stamp_of("who", [1]))


def test_a_probe_and_its_answer_come_back_as_they_were() -> None:
    asked = (Asked(UID, 3), Asked(UID[::-1], 2**63, "größe.tenant", (0, 4095)), Asked(UID, 4, "", ()))
    assert decode_asked(encode_asked(asked)) == asked
    assert decode_asked(b"") == ()
    stamps = [Stamp(1, 2, 3), NO_STAMP]
    assert decode_stamps(b"".join(encode_stamps(stamps))) == stamps


@pytest.mark.parametrize("cut", [1, 2, 5, 20, 40])
def test_a_probe_that_was_cut_is_refused(cut: int) -> None:
    body = encode_asked([Asked(UID, 3, "tenant", (5, 6))])
    with pytest.raises(Corrupt):
        decode_asked(body[:-cut])


def test_slots_that_do_not_exist_and_half_stamps_are_refused() -> None:
    with pytest.raises(Corrupt, match="slot 4096"):
        decode_asked(encode_asked([Asked(UID, 3, "tenant", (4096,))]))
    with pytest.raises(Corrupt):
        decode_stamps(bytes(25))
