"""A collection's snapshot over all its shards, as a value: what it holds, what it is called, and where it fits. Pure.

A snapshot is one part a shard (shards/snapshot.py) and a description. It means, of each shard, the moment at which its part
was taken (`last_lsn`): every write that had been acknowledged before the snapshot was asked for is in it, one that came
meanwhile may be. Its shards' moments differ by some ms.

The description is kept by every shard beside its part, by the lead (the first of its shards) last: from then on the snapshot
is there, and without the lead's it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.collection_settings import decode_settings
from cluster.shard_map import EPOCH_MAX, ShardId, ShardMap, even_map
from cluster.state import CollectionState
from shards.errors import DamagedSnapshot, InvalidRequest
from shards.filters.paths import parse_path
from shards.schema import CollectionSpec

FORMAT = 1
DESCRIPTION_ENTRY = "description.json"
"""The first entry of a snapshot that is one file."""
TENANT_FIELD_BYTES_MAX = 2**16 - 1
"""Of a path that a description may name: routers tell shards its length as uint16."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SnapshotPart(_Frozen):
    """One shard's. `last_lsn`: its last write; `files`: bytes by path (with slashes) inside the part."""

    shard_id: ShardId
    last_lsn: Annotated[int, Field(ge=0)]
    files: dict[str, Annotated[int, Field(ge=0)]]


class SnapshotContent(_Frozen):
    """What a snapshot holds, and what a collection needs to become the same again, besides its parts' own files (the
    declared payload fields are among those). `collection`: its name when it was taken; `uid`: its uid then.
    """

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    name: str
    collection: str
    uid: str
    created_s: float
    spec: CollectionSpec
    shard_map: ShardMap
    settings: str
    tenant_field: str | None
    late_tenant_field: str | None = None
    parts: tuple[SnapshotPart, ...]

    @property
    def lead(self) -> int:
        """The shard whose description makes the snapshot count."""
        return self.shard_map.shard_ids[0]


class SnapshotDescription(_Frozen):
    """A snapshot that counts. `byte_count` and `sha256` are those of the snapshot as one file (snapshot_archive.py)."""

    content: SnapshotContent
    byte_count: Annotated[int, Field(ge=0)]
    sha256: str

    @property
    def created_at(self) -> str:
        """When it was taken, in the API's form: UTC, whole seconds."""
        return datetime.fromtimestamp(self.content.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Entry(NamedTuple):
    """A file of a snapshot that is one file: its name there, and where it lies among the parts."""

    name: str
    byte_count: int
    shard_id: int
    path: str


def snapshot_name(created_s: float, random_hex: str) -> str:
    """A name that no other snapshot has, of letters, digits and hyphens."""
    return f"snapshot-{datetime.fromtimestamp(created_s, UTC):%Y-%m-%d-%H-%M-%S}-{random_hex}"


def content_of(
    collection: CollectionState, name: str, created_s: float, taken: Mapping[int, Mapping[str, Any]]
) -> SnapshotContent:
    """The content, of what each shard answered when it had taken its part."""
    parts = tuple(
        SnapshotPart(shard_id=shard_id, last_lsn=part["last_lsn"], files=part["files"])
        for shard_id, part in sorted(taken.items())
    )
    return SnapshotContent(
        name=name,
        collection=collection.name,
        uid=collection.uid,
        created_s=created_s,
        spec=collection.spec,
        shard_map=collection.shard_map,
        settings=collection.settings,
        tenant_field=collection.tenant_field,
        late_tenant_field=collection.late_tenant_field,
        parts=parts,
    )


def entries(content: SnapshotContent) -> Iterator[Entry]:
    """The files of all parts, in the order in which one file holds them."""
    for part in content.parts:
        for path, byte_count in sorted(part.files.items()):
            yield Entry(f"shard-{part.shard_id}/{path}", byte_count, part.shard_id, path)


def decode_content(encoded: bytes) -> SnapshotContent:
    """The content in a file's first entry. Raises DamagedSnapshot."""
    try:
        content = SnapshotContent.model_validate_json(encoded)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:200]
        raise DamagedSnapshot(f"{DESCRIPTION_ENTRY} describes no snapshot: {place}: {first['msg']}") from None
    if sorted(part.shard_id for part in content.parts) != list(content.shard_map.shard_ids):
        raise DamagedSnapshot(f"{DESCRIPTION_ENTRY}: the parts are not those of the shard map")
    try:
        _check_for_catalogue(content)
    except (InvalidRequest, ValueError) as error:
        raise DamagedSnapshot(f"{DESCRIPTION_ENTRY} can't be a collection's: {str(error)[:300]}") from None
    return content


def _check_for_catalogue(content: SnapshotContent) -> None:
    """Raises InvalidRequest or ValueError for what no collection of the catalogue has: it would fail each time it is used."""
    if content.shard_map.epoch > EPOCH_MAX:
        raise ValueError(f"shard_map.epoch: it is above the limit EPOCH_MAX of {EPOCH_MAX}")
    decode_settings(content.settings, frozenset(content.spec.vectors))
    for name, path in (("tenant_field", content.tenant_field), ("late_tenant_field", content.late_tenant_field)):
        if path is not None:
            if len(path.encode()) > TENANT_FIELD_BYTES_MAX:
                raise ValueError(
                    f"{name}: it is longer than the limit TENANT_FIELD_BYTES_MAX, {TENANT_FIELD_BYTES_MAX}"
                )
            parse_path(path)


def those_that_count(found: Mapping[int, Iterable[Mapping[str, Any]]]) -> list[SnapshotDescription]:
    """The snapshots of the cluster, oldest first, of the descriptions that each shard keeps."""
    snapshots = []
    for shard_id, kept in found.items():
        for encoded in kept:
            try:
                description = SnapshotDescription.model_validate(encoded)
            except ValidationError:
                continue  # another version's
            if description.content.lead == shard_id:
                snapshots.append(description)
    return sorted(snapshots, key=lambda one: (one.content.created_s, one.content.name))


def check_fits(content: SnapshotContent, shard_ids: Sequence[int]) -> None:
    """Raises InvalidRequest unless a cluster of these shards can hold the snapshot as it is: part by part."""
    needed = content.shard_map.shard_ids
    if len(needed) > len(shard_ids):
        raise InvalidRequest(
            f"the snapshot is of a collection over {len(needed)} shards, this cluster has {len(shard_ids)}; a snapshot"
            " is recovered with as many shards as it was taken of: use a cluster that has them"
        )
    if content.shard_map.runs != even_map(tuple(shard_ids)[: len(needed)], epoch=1).runs:
        raise InvalidRequest(
            "the snapshot's points lie on its shards in another way than this cluster would have them"
        )


def recovered(content: SnapshotContent, name: str, uid: str) -> CollectionState:
    """The collection that a snapshot becomes. The epoch stays: no write of the new one is under an older one."""
    return CollectionState(
        name=name,
        uid=uid,
        spec=content.spec,
        shard_map=content.shard_map,
        status="creating",
        settings=content.settings,
        tenant_field=content.tenant_field,
        late_tenant_field=content.late_tenant_field,
        restored=True,
    )
