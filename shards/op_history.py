"""Which operations a collection applied lately, so that a repeated one takes effect once.

A client (or the router) that lost an answer repeats the write under the same operation id. The history is rebuilt
from the log at a restart. It is bounded: an operation older than `OPS_KEPT` others is forgotten.
"""

from __future__ import annotations

OPS_KEPT = 65_536
NO_OP_ID = bytes(16)
"""The id of an operation that nobody will repeat."""


class OpHistory:
    """Operation id (16 bytes) -> LSN, the newest `OPS_KEPT`."""

    def __init__(self) -> None:
        self._lsn_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._lsn_of)

    def add(self, op_id: bytes, lsn: int) -> None:
        """Remember that the operation was applied at `lsn`."""
        if op_id == NO_OP_ID:
            return
        self._lsn_of[op_id] = lsn
        if len(self._lsn_of) > OPS_KEPT:
            del self._lsn_of[next(iter(self._lsn_of))]

    def lsn_of(self, op_id: bytes) -> int | None:
        """The LSN at which the operation was applied, if it was."""
        return self._lsn_of.get(op_id)
