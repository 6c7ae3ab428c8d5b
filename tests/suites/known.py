"""Which tests differ on purpose, and why: where the client's in-process mode is odd, not the cluster wrong.

docs/api.md tells readers the same. An entry whose test no longer differs is a mistake like one that is missing.
"""

from __future__ import annotations

NO_POINT_ID = (
    "an id that is neither a number nor a UUID: in process no point has it, Shoal refuses it (400), as Qdrant does"
)

DIFFERENCES = {
    (suite, f"{test}{awaited}"): NO_POINT_ID
    for suite in ("TestLangChain", "TestLangChainNamed")
    for test in ("test_delete_missing_content", "test_get_by_ids_missing")
    for awaited in ("", "_async")
}
"""By suite and test."""
