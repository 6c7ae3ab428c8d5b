"""The router's own memory of answers: by canonical key, found also by the bytes of a body that asked for them before."""

from __future__ import annotations

from collections.abc import Callable

from deployments.cache_counts import CacheCounts
from deployments.cache_entry import RAW_KEYS_MAX, Entry
from deployments.cache_policy import TinyLfu


class LevelOne:
    """At most `bytes_max` bytes; what has to go is deployments/cache_policy.py's choice."""

    def __init__(self, bytes_max: int, counts: CacheCounts) -> None:
        self._held: TinyLfu[Entry] = TinyLfu(bytes_max)
        self._keys: dict[bytes, bytes] = {}
        """Canonical keys by raw ones, of entries that are held."""
        self._counts = counts

    def __len__(self) -> int:
        return len(self._held)

    def find(self, raw: bytes) -> Entry | None:
        """The answer to a body that was seen before. One that was not is looked for by its canonical key next."""
        key = self._keys.get(raw)
        return None if key is None else self._held.get(key)

    def get(self, key: bytes) -> Entry | None:
        """The answer to a question."""
        return self._held.get(key)

    def put(self, entry: Entry, raw: bytes | None = None) -> None:
        """Keep an answer, in place of an older one to the same question, if it is worth its room. `raw`: the body that asked
        for it, where that is one question's.
        """
        older = self._held.pop(entry.key)
        if older is not None:
            entry.raw_keys = older.raw_keys
        if raw is not None:
            self.link(entry, raw)
        for gone in self._held.put(entry.key, entry, entry.weight):
            self._forget_spellings(gone)
            if gone is entry:
                self._counts.refused += 1
            else:
                self._counts.evictions += 1
        self._count()

    def link(self, entry: Entry, raw: bytes) -> None:
        """Know the entry by these bytes, too."""
        if raw not in self._keys and len(entry.raw_keys) < RAW_KEYS_MAX:
            entry.raw_keys += (raw,)
            self._keys[raw] = entry.key

    def drop(self, is_meant: Callable[[Entry], bool]) -> int:
        """Let go of some entries; how many."""
        dropped = [entry for _, entry in self._held if is_meant(entry)]
        for entry in dropped:
            self._held.pop(entry.key)
            self._forget_spellings(entry)
        self._count()
        return len(dropped)

    def _forget_spellings(self, entry: Entry) -> None:
        for raw in entry.raw_keys:
            self._keys.pop(raw, None)
        entry.raw_keys = ()

    def _count(self) -> None:
        self._counts.l1_bytes = self._held.byte_count
        self._counts.l1_entries = len(self._held)
