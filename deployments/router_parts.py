"""What a router has beside the API itself. Each part's default is what a small test wants."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployments.admission import Admission
from deployments.observability import OBSERVE_DEFAULTS, ObserveSettings
from deployments.result_cache import ResultCache
from deployments.snapshot_settings import SnapshotSettings


@dataclass(frozen=True, slots=True)
class RouterParts:
    """`cache`: kept answers, None for none. `observe`: logs and traces. `snapshots`: whence they may be recovered.
    `admission`: how much the router takes on; None for the defaults.
    """

    cache: ResultCache | None = None
    observe: ObserveSettings = OBSERVE_DEFAULTS
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    admission: Admission | None = None


PLAIN = RouterParts()
