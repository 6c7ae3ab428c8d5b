"""What lies in Redis comes back as it was, and nothing else is believed: not one byte may differ."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from cluster.requests import Footprint
from deployments.cache_entry import Entry
from deployments.cache_value import MAC_BYTES, MAGIC, NEVER, Poisoned, Versions, decode_value, encode_value
from shards.generations import Asked, Stamp
from shards.hits import no_hits
from shards.messages import encode_hits

SECRET, KEY, TAG = b"s" * 32, bytes(range(32)), "17:" + "ab" * 16
FOOTPRINT = Footprint(Asked(bytes(16), 3), (0, 5))
PART = b"".join(encode_hits(no_hits(1), Stamp(1, 2, 3)))
ENTRY = Entry(KEY, FOOTPRINT, b'[{"id":1}]', (1, 2, 3, 4, 5, 6), (PART, PART), 12.0)
VERSIONS = Versions(1, 2, 3)


def read(value: bytes) -> tuple[Entry, Versions]:
    return decode_value(value, KEY, TAG, FOOTPRINT, SECRET)


def test_it_comes_back_as_it_was_but_unchecked() -> None:
    entry, versions = read(encode_value(ENTRY, TAG, VERSIONS, SECRET))
    assert versions == VERSIONS
    assert entry.asked_at == NEVER
    entry.asked_at = ENTRY.asked_at
    assert entry == ENTRY
    alone = Entry(KEY, Footprint(FOOTPRINT.asked, (5,)), b"[]", (4, 5, 6), (), NEVER)
    assert decode_value(encode_value(alone, TAG, VERSIONS, SECRET), KEY, TAG, alone.footprint, SECRET)[0] == alone


def test_every_cut_and_every_flipped_byte_is_seen() -> None:
    value = encode_value(ENTRY, TAG, VERSIONS, SECRET)
    for at in range(len(value)):
        for bad in (value[:at], value[:at] + bytes([value[at] ^ 0x40]) + value[at + 1 :]):
            with pytest.raises(Poisoned):
                read(bad)
    with pytest.raises(Poisoned):
        read(value + b"\0")


def test_what_was_written_for_another_question_or_cluster_is_not_believed() -> None:
    value = encode_value(ENTRY, TAG, VERSIONS, SECRET)
    for key, tag, footprint, secret in (
        (KEY[::-1], TAG, FOOTPRINT, SECRET),
        (KEY, "18:" + "ab" * 16, FOOTPRINT, SECRET),
        (KEY, TAG, Footprint(FOOTPRINT.asked, (0,)), SECRET),
        (KEY, TAG, FOOTPRINT, b"t" * 32),
    ):
        with pytest.raises(Poisoned):
            decode_value(value, key, tag, footprint, secret)


@pytest.mark.parametrize("body", [b"", b"x" * 30, b"\xff" * 200, KEY + bytes(90)])
def test_a_body_with_the_right_mac_may_still_be_nonsense(body: bytes) -> None:
    mac = blake2b(body, digest_size=MAC_BYTES, key=SECRET).digest()
    with pytest.raises(Poisoned):
        read(MAGIC + mac + body)
