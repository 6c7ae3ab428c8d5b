"""What a router has beside the API itself. Each part's default is what a small test wants."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.observability import OBSERVE_DEFAULTS, ObserveSettings
from deployments.result_cache import ResultCache


@dataclass(frozen=True, slots=True)
class RouterParts:
    """`cache`: kept answers, None for none. `observe`: logs and traces."""

    cache: ResultCache | None = None
    observe: ObserveSettings = OBSERVE_DEFAULTS


PLAIN = RouterParts()
