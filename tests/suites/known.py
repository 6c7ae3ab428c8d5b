"""Which tests differ, and why that is right: the client's in-process mode is odd, or Shoal refuses by name what it has not yet.

docs/api.md tells readers the same. An entry whose test no longer differs is a mistake like one that is missing.
"""

from __future__ import annotations

NO_POINT_ID = (
    "an id that is neither a number nor a UUID: in process no point has it, Shoal refuses it (400), as Qdrant does"
)
NO_MMR = "`mmr` is not there yet: refused with its name"

_REFUSED_IDS = {
    (suite, f"{test}{awaited}"): NO_POINT_ID
    for suite in ("TestLangChain", "TestLangChainNamed")
    for test in ("test_delete_missing_content", "test_get_by_ids_missing")
    for awaited in ("", "_async")
}
_MMR = {
    ("retrieval_suite", f"test_langchain_wants_them_diverse[{distance}]"): NO_MMR
    for distance in ("Cosine", "Dot", "Euclid")
}
DIFFERENCES = {**_REFUSED_IDS, **_MMR}
"""By suite and test."""
