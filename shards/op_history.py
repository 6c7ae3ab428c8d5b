"""Which operations a collection applied lately, so that a repeated one takes effect once.

A client (or the router) that lost an answer repeats the write under the same operation id. At a restart the history
comes from the manifest (shards/manifest.py keeps it in a file) and the log behind it. It is bounded: an operation older
than `OPS_KEPT` others is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from shards.errors import Corrupt

OPS_KEPT = 65_536
"""One minute of a thousand writes a second, several times what a repetition waits; 1.5 MB in each manifest's file."""
_ENTRY = np.dtype([("op_id", "V16"), ("lsn", "<u8")])
NO_OP_ID = bytes(16)
"""The id of an operation that nobody will repeat."""


class OpHistory:
    """Operation id (16 bytes) -> LSN, the newest `OPS_KEPT`."""

    def __init__(self) -> None:
        # Not a dict: finding the first entry of one that is always emptied at its front takes longer and longer.
        self._lsn_of: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lsn_of)

    def add(self, op_id: bytes, lsn: int) -> None:
        """Remember that the operation was applied at `lsn`."""
        if op_id == NO_OP_ID:
            return
        self._lsn_of[op_id] = lsn
        if len(self._lsn_of) > OPS_KEPT:
            self._lsn_of.popitem(last=False)

    def lsn_of(self, op_id: bytes) -> int | None:
        """The LSN at which the operation was applied, if it was."""
        return self._lsn_of.get(op_id)

    def encode(self) -> bytes:
        """Everything that is remembered, oldest first, 24 bytes each."""
        entries = np.zeros(len(self._lsn_of), _ENTRY)
        entries["op_id"] = np.frombuffer(b"".join(self._lsn_of), "V16")
        entries["lsn"] = np.fromiter(self._lsn_of.values(), np.uint64, len(self._lsn_of))
        return entries.tobytes()

    def restore(self, content: bytes) -> None:
        """Remember what `encode` wrote. Raises Corrupt."""
        if len(content) % _ENTRY.itemsize:
            raise Corrupt(f"a history of operations has {len(content)} bytes, no multiple of {_ENTRY.itemsize}")
        entries = np.frombuffer(content, _ENTRY)
        for op_id, lsn in zip(entries["op_id"].tolist(), entries["lsn"].tolist(), strict=True):
            self.add(op_id, lsn)
