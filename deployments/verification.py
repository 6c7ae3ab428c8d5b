"""A data folder looked at while no cluster runs: its own files here, each shard's folder in shards/verify.py.

What has to be there is what the catalogue names. Where the catalogue can't be read, every shard's folder that is there
is looked at all the same, and nobody can say which are missing. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cluster.catalogue import CATALOGUE_FILE, PREVIOUS_FILE, SHARDS_FOLDER, CatalogueFile, decode_catalogue
from cluster.catalogue_model import Catalogue, check_settings
from deployments.data_folder import IDENTITY_FILE, SECRET_FILE, held_still, read_identity
from shards.errors import NotFound, ShoalError
from shards.identity import ShardIdentity
from shards.verify import Severity, Verification, verify_shard

START_REFUSED = "no cluster starts on this folder until it is put right"


def verify_folder(path: Path) -> Verification:
    """Look at everything in a data folder. Raises NotFound where it is none, Conflict where a cluster runs on it."""
    files = (IDENTITY_FILE, CATALOGUE_FILE, SHARDS_FOLDER)
    if not any((path / name).exists() for name in files):
        raise NotFound(
            f"{path} is no data folder of a cluster: none of {', '.join(files)} is in it; name one by --data"
        )
    with held_still(path):
        result = Verification()
        catalogue = _verify_own_files(path, result)
        for identity, uids in _expected_shards(path, catalogue, result):
            verify_shard(path / SHARDS_FOLDER / str(identity.shard_id), identity, uids, result)
        return result


def _verify_own_files(path: Path, result: Verification) -> Catalogue | None:
    for name in (IDENTITY_FILE, CATALOGUE_FILE, PREVIOUS_FILE, SECRET_FILE):
        result.count(path / name)
    catalogue = None
    try:
        catalogue = CatalogueFile(path).load()
    except ShoalError as error:
        result.add(Severity.LOST, path / CATALOGUE_FILE, error.message, START_REFUSED)
    try:
        identity = read_identity(path / IDENTITY_FILE)
        if catalogue is not None:
            check_settings(catalogue, identity["cluster_id"], None)
    except ShoalError as error:
        result.add(Severity.LOST, path / IDENTITY_FILE, error.message, START_REFUSED)
    _verify_spare(path / PREVIOUS_FILE, result)
    _verify_secret(path / SECRET_FILE, result)
    return catalogue


def _verify_spare(path: Path, result: Verification) -> None:
    if path.exists():
        try:
            decode_catalogue(path.read_bytes(), str(path))
        except ShoalError as error:
            advice = "it is only the version before; the next change of the catalogue replaces it"
            result.add(Severity.REPAIRABLE, path, error.message, advice)


def _verify_secret(path: Path, result: Verification) -> None:
    try:
        bytes.fromhex(path.read_text())
    except FileNotFoundError:
        result.add(Severity.NOTE, path, "it is missing", "`shoal up` makes another")
    except ValueError:
        result.add(Severity.LOST, path, "it is no hexadecimal text", "remove it: `shoal up` makes another")


def _expected_shards(
    path: Path, catalogue: Catalogue | None, result: Verification
) -> Iterator[tuple[ShardIdentity, list[str]]]:
    """Every shard that has to be there (or is), and the collections that it has to have."""
    found = sorted((path / SHARDS_FOLDER).iterdir()) if (path / SHARDS_FOLDER).is_dir() else []
    if catalogue is None:
        for folder in found:
            if folder.name.isdecimal():
                yield _identity_by_folder(path, int(folder.name)), []
        return
    for shard in catalogue.shards:
        if not catalogue.initialised and not (path / SHARDS_FOLDER / str(shard.shard_id)).exists():
            continue  # still to be made
        ready = [item for item in catalogue.with_status("ready") if shard.shard_id in item.shard_map.shard_ids]
        yield ShardIdentity(catalogue.cluster_id, shard.shard_id, shard.node_id), [item.uid for item in ready]
    known = {str(shard.shard_id) for shard in catalogue.shards}
    for folder in found:
        if folder.name not in known:
            result.leftover(folder, "the catalogue knows no such shard")


def _identity_by_folder(path: Path, shard_id: int) -> ShardIdentity:
    try:
        own = read_identity(path / IDENTITY_FILE)
    except ShoalError:
        own = {"cluster_id": "", "node_id": ""}  # told already
    return ShardIdentity(own["cluster_id"], shard_id, own["node_id"])
