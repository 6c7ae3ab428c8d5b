"""Settings of a cluster: what they are, what they default to, and who wins where two sources differ.

A flag wins over the environment, the environment over the file, the file over the defaults below. All of them are read
once, by `load_settings`, at the edge; inwards go narrow, frozen parts. `configs/default.yaml` says the same defaults with
words for readers, and a test holds the two together.

In the environment a key is spelled SHOAL_SECTION__KEY (`SHOAL_HTTP__PORT=7000`), and the one key outside a section
SHOAL_DATA_FOLDER. A name with two underscores in a row is always taken for ours and must exist; other names that begin
with SHOAL_ are left alone (Kubernetes sets some for a service of that name).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.admission_settings import AdmissionSettings
from deployments.cache_settings import CacheSettings
from deployments.limits import LimitSettings
from deployments.log_settings import LogSettings, TracingSettings
from deployments.snapshot_settings import SnapshotSettings
from shards.errors import InvalidRequest
from shards.settings import ShardSettings

ENVIRONMENT_PREFIX = "SHOAL_"
SECTION_MARK = "__"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpSettings(_Frozen):
    """Where clients reach the cluster. Nothing else listens on any interface but loopback."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 6333
    """What clients of the API expect."""


class ClusterSettings(_Frozen):
    """`shard_count`: None takes what the data folder has, and SHARD_COUNT_DEFAULT for a new one."""

    shard_count: Annotated[int, Field(ge=1, le=1024)] | None = None
    start_timeout_s: Annotated[float, Field(gt=0)] = 180.0
    """How long `up` may take until the first request is answered; after it everything is torn down again."""


class RouterSettings(_Frozen):
    """The Serve replicas that answer HTTP."""

    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 1024
    """Requests that one router works on at once."""
    straggler_wait_s: Annotated[float, Field(gt=0)] = 0.05
    """How long a request whose caller takes a partial answer waits for the rest, once enough shards have answered; ten times as
    long as those usually take where that is more.
    """


class Settings(_Frozen):
    """Everything that a person can set."""

    data_folder: Path = Path("shoal-data")
    http: HttpSettings = HttpSettings()
    cluster: ClusterSettings = ClusterSettings()
    shards: ShardSettings = ShardSettings()
    router: RouterSettings = RouterSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    admission: AdmissionSettings = AdmissionSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    snapshots: SnapshotSettings = SnapshotSettings()


class AppArgs(_Frozen):
    """What the Serve application is built from: identity, folder, and the settings that it needs."""

    data_folder: Path
    cluster_id: str
    node_id: str
    bind_host: str = "127.0.0.1"
    """Where shards open their sockets."""
    shard_count: int | None = None
    shards: ShardSettings = ShardSettings()
    router: RouterSettings = RouterSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    admission: AdmissionSettings = AdmissionSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    snapshots: SnapshotSettings = SnapshotSettings()


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Flags over environment over file over defaults. `flags` has dotted keys (`http.port`); None means not given.

    Raises InvalidRequest, in one sentence with the key, the value and where it came from.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if file is not None:
        layers.append((f"the file {file}", _read_file(file)))
    layers.append(("the environment", _from_environment(environment or {})))
    layers.append(("the command line", _nested(flags or {}, ".")))
    merged: dict[str, Any] = {}
    for source, layer in layers:
        _check(layer, source)
        merged = _merge(merged, layer)
    return _check(merged, "the settings")


def _check(values: Mapping[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        if first["type"] == "extra_forbidden":
            raise InvalidRequest(f"{source}: there is no setting {key!r} (value {first['input']!r})") from None
        shown = "(not shown)" if _may_hold_a_password(key, first["input"]) else repr(first["input"])
        raise InvalidRequest(f"{source}: {key} = {shown} is refused: {first['msg']}") from None


def _may_hold_a_password(key: str, value: object) -> bool:
    return "redis_url" in key or (isinstance(value, Mapping) and value.get("redis_url") is not None)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"the settings file {file} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(f"the settings file {file} is not YAML: {reason}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidRequest(f"the settings file {file} must hold keys and values, not {type(found).__name__}")
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    ours = {}
    for name, value in environment.items():
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and (SECTION_MARK in key or key == "data_folder"):
            ours[key] = value
    return _nested(ours, SECTION_MARK)


def _nested(flat: Mapping[str, object], mark: str) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}, without what is None."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if value is not None:
            *sections, last = key.split(mark)
            inner = nested
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[last] = value
    return nested


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        both_sections = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both_sections else value
    return merged
