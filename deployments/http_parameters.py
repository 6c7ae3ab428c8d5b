"""A request's query parameters: what each may be, and what it means here.

`wait` and `timeout` are heeded. `ordering` and `consistency` say how copies of a shard are to agree; there is one copy of each
shard, which takes its writes one after the other and answers from what it took, so every value that they may have is kept
by what is done anyway. They are checked all the same: who misspells one would else believe it kept.
Parameters with other names are ignored, of one that is repeated the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl

from shards.errors import InvalidRequest

ORDERINGS = ("weak", "medium", "strong")
CONSISTENCIES = ("majority", "quorum", "all")
"""Or a number of copies, 1 or more."""
TIMEOUT_S_MIN = 0.001
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
"""The API has whole seconds; fractions are taken too."""
_COPIES = re.compile(r"0*[1-9][0-9]{0,8}")


@lru_cache(maxsize=1024)
def parse_parameters(query_string: bytes) -> Mapping[str, str]:
    """The parameters of a query string. Not to be written to. Raises InvalidRequest where one that says how a request is
    answered has a value that it can't have.
    """
    found = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))
    _check_one_of(found, "ordering", ORDERINGS)
    _check_one_of(found, "wait", ("true", "false"))
    consistency = found.get("consistency")
    if consistency is not None and consistency not in CONSISTENCIES and not _COPIES.fullmatch(consistency):
        raise InvalidRequest(
            f"consistency={consistency[:40]} is neither one of {', '.join(CONSISTENCIES)} nor a number of copies, 1 or more"
        )
    return found


def seconds_of(text: str, seconds_max: float) -> float:
    """What `timeout` says. Raises InvalidRequest."""
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not TIMEOUT_S_MIN <= seconds <= seconds_max:
        raise InvalidRequest(
            f"timeout={text[:40]} is not a number of seconds from 1 (or {TIMEOUT_S_MIN:g}: fractions are taken) to"
            f" {seconds_max:g}"
        )
    return seconds


def _check_one_of(found: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> None:
    text = found.get(name)
    if text is not None and text not in allowed:
        raise InvalidRequest(f"{name}={text[:40]} is not one of {', '.join(allowed)}")
