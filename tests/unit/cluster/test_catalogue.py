"""The catalogue's rules, and that its file is read back whole or refused, never replaced by an empty one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cluster import catalogue as catalogue_module
from cluster.aliases import CreateAlias, DeleteAlias
from cluster.api_keys import Grant, Role, new_key
from cluster.catalogue import CATALOGUE_FILE, PREVIOUS_FILE, CatalogueFile, decode_catalogue, encode_catalogue
from cluster.catalogue_model import Catalogue, check_settings, new_catalogue
from shards.distance import Distance
from shards.errors import Conflict, Corrupt, Internal, InvalidRequest, LimitExceeded, NotFound, StorageFull
from shards.schema import CollectionSpec, VectorSpec

SPEC = CollectionSpec(vectors={"": VectorSpec(size=4, distance=Distance.COSINE)})
UID, OTHER_UID = "a" * 32, "b" * 32


def make_catalogue() -> Catalogue:
    return new_catalogue("c", "n", 2).booted().as_initialised().creating("words", UID, SPEC, None).moved(UID, "ready")


def test_a_new_cluster() -> None:
    catalogue = new_catalogue("c", "n", None)
    assert catalogue.shard_ids == (0, 1)
    assert not catalogue.initialised
    with pytest.raises(InvalidRequest, match="0 shards"):
        new_catalogue("c", "n", 0)


def test_a_name_is_taken_until_its_collection_is_being_deleted() -> None:
    catalogue = new_catalogue("c", "n", 2).creating("words", UID, SPEC, None)
    for status in ("creating", "ready"):
        with pytest.raises(Conflict, match=r"^Wrong input: Collection `words` already exists!$"):
            catalogue.moved(UID, status).creating("words", OTHER_UID, SPEC, None)  # type: ignore[arg-type]
    both = catalogue.moved(UID, "deleting").creating("words", OTHER_UID, SPEC, None)
    found = both.find("words")
    assert found is not None
    assert found.uid == OTHER_UID
    assert list(both.forgotten(UID).collections) == [OTHER_UID]


def test_only_ready_collections_are_found_for_deletion() -> None:
    catalogue = new_catalogue("c", "n", 2).creating("words", UID, SPEC, None)
    for unready in (catalogue, catalogue.moved(UID, "deleting"), new_catalogue("c", "n", 2)):
        with pytest.raises(NotFound, match=r"^Not found: Collection `words` doesn't exist!$"):
            unready.find_ready("words")
    assert catalogue.moved(UID, "ready").find_ready("words").uid == UID


def test_a_collection_lies_on_the_first_shards() -> None:
    catalogue = new_catalogue("c", "n", 3)
    assert catalogue.creating("x", UID, SPEC, 2).collections[UID].shard_map.shard_ids == (0, 1)
    assert catalogue.creating("x", UID, SPEC, None).collections[UID].shard_map.shard_ids == (0, 1, 2)
    for count in (0, 4):
        with pytest.raises(LimitExceeded, match="has 3 shards"):
            catalogue.creating("x", UID, SPEC, count)


def test_aliases_go_with_their_collection_and_with_no_other() -> None:
    catalogue = make_catalogue().creating("other", OTHER_UID, SPEC, None).moved(OTHER_UID, "ready")
    catalogue = catalogue.with_aliases([CreateAlias("a", "words"), CreateAlias("b", "other")])
    assert catalogue.aliases == {"a": "words", "b": "other"}
    gone = catalogue.moved(UID, "deleting")
    assert gone.aliases == {"b": "other"}
    again = (
        gone.creating("words", "c" * 32, SPEC, None)
        .moved("c" * 32, "ready")
        .with_aliases([CreateAlias("a", "words")])
    )
    assert again.forgotten(UID).aliases == {"a": "words", "b": "other"}
    rolled_back = again.creating("third", "d" * 32, SPEC, None).moved("d" * 32, "deleting")
    assert rolled_back.aliases == again.aliases


def test_a_name_is_a_collection_or_an_alias() -> None:
    catalogue = make_catalogue().creating("coming", OTHER_UID, SPEC, None)
    for name in ("words", "coming"):
        with pytest.raises(Conflict, match=f"Collection `{name}` already exists!"):
            catalogue.with_aliases([CreateAlias(name, "words")])
    with pytest.raises(NotFound, match="Collection `coming` doesn't exist!"):
        catalogue.with_aliases([CreateAlias("a", "coming")])
    named = catalogue.with_aliases([CreateAlias("a", "words")])
    with pytest.raises(InvalidRequest, match="Collection `a` can't be created: there is an alias of this name"):
        named.creating("a", "c" * 32, SPEC, None)
    assert named.with_aliases([DeleteAlias("a")]).creating("a", "c" * 32, SPEC, None).find("a") is not None
    with pytest.raises(NotFound):
        named.find_ready("a")


def test_settings_are_kept_and_changed() -> None:
    catalogue = new_catalogue("c", "n", 2).creating("words", UID, SPEC, None, {"metadata": {"a": 1}})
    with pytest.raises(NotFound, match="Collection `words` doesn't exist!"):
        catalogue.with_settings("words", {"metadata": {}})
    changed = catalogue.moved(UID, "ready").with_settings("words", {"metadata": {"b": 2}})
    assert changed.collections[UID].settings == '{"metadata":{"a":1,"b":2}}'
    assert changed.collections[UID].spec == SPEC
    assert decode_catalogue(encode_catalogue(changed), "catalogue") == changed


def test_a_catalogue_from_before_aliases_is_read() -> None:
    catalogue = make_catalogue()
    body = catalogue.model_dump(mode="json")
    del body["aliases"], body["collections"][UID]["settings"]
    assert Catalogue.model_validate(body) == catalogue


def test_settings_that_contradict_the_files_are_refused() -> None:
    catalogue = make_catalogue()
    check_settings(catalogue, "c", 2)
    check_settings(catalogue, "c", None)
    with pytest.raises(
        Conflict, match="2 shards and 3 are configured; changing the number of shards is not possible"
    ):
        check_settings(catalogue, "c", 3)
    with pytest.raises(Conflict, match="belongs to cluster c"):
        check_settings(catalogue, "other", 2)


def test_a_new_folder_has_no_catalogue(tmp_path: Path) -> None:
    assert CatalogueFile(tmp_path).load() is None


def test_saved_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    file, first, second = CatalogueFile(tmp_path), new_catalogue("c", "n", 2), make_catalogue()
    file.save(first)
    file.save(second)
    assert CatalogueFile(tmp_path).load() == second
    assert decode_catalogue((tmp_path / PREVIOUS_FILE).read_bytes(), "previous") == first
    reopened = CatalogueFile(tmp_path)
    reopened.load()
    reopened.save(first)
    assert decode_catalogue((tmp_path / PREVIOUS_FILE).read_bytes(), "previous") == second


def test_a_catalogue_that_vanished_is_not_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    assert CatalogueFile(tmp_path).load() is None
    (tmp_path / "shards" / "0").mkdir()
    with pytest.raises(Corrupt, match=r"catalogue\.json is missing, but .*shards/0"):
        CatalogueFile(tmp_path).load()


def test_a_previous_catalogue_alone_is_not_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / PREVIOUS_FILE).write_bytes(encode_catalogue(make_catalogue()))
    with pytest.raises(Corrupt, match=r"catalogue\.json is missing, but .*previous"):
        CatalogueFile(tmp_path).load()


def test_keys_are_kept_as_hashes_and_a_catalogue_from_before_them_has_none() -> None:
    made = new_key(bytes(38), (Grant(role=Role.READ, collection="words"),), "a label", 7)
    content = encode_catalogue(make_catalogue().with_keys((made.record,)))
    assert decode_catalogue(content, CATALOGUE_FILE).keys == (made.record,)
    assert made.text.rsplit("_", 1)[1].encode() not in content
    before_keys = make_catalogue().model_dump(exclude={"keys"})
    assert Catalogue.model_validate(before_keys).keys == ()


def test_every_cut_and_every_flipped_byte_is_refused() -> None:
    content = encode_catalogue(make_catalogue())
    for length in range(len(content)):
        with pytest.raises(Corrupt, match=r"catalogue\.json"):
            decode_catalogue(content[:length], CATALOGUE_FILE)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(Corrupt, match=r"catalogue\.json"):
            decode_catalogue(bytes(damaged), CATALOGUE_FILE)
    with pytest.raises(Corrupt):
        decode_catalogue(content * 2, CATALOGUE_FILE)


def test_a_later_format_is_named() -> None:
    content = encode_catalogue(make_catalogue()).replace(b'{"format":1', b'{"format":2', 1)
    with pytest.raises(Corrupt, match="has format 2, this version of Shoal reads format 1"):
        decode_catalogue(content, CATALOGUE_FILE)


def test_a_damaged_file_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / CATALOGUE_FILE).write_bytes(b"")
    with pytest.raises(Corrupt, match="0 bytes"):
        CatalogueFile(tmp_path).load()
    assert [path.name for path in tmp_path.iterdir()] == [CATALOGUE_FILE]


def test_a_full_disk_keeps_the_old_catalogue_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, first = CatalogueFile(tmp_path), new_catalogue("c", "n", 2)
    file.save(first)
    with monkeypatch.context() as broken:
        broken.setattr(catalogue_module, "write_durably", failing(errno.ENOSPC))
        with pytest.raises(StorageFull, match="make room"):
            file.save(make_catalogue())
    assert CatalogueFile(tmp_path).load() == first
    file.save(make_catalogue())
    assert CatalogueFile(tmp_path).load() == make_catalogue()


def test_nothing_is_written_after_an_fsync_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, first = CatalogueFile(tmp_path), new_catalogue("c", "n", 2)
    file.save(first)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(Internal, match="Input/output error"):
            file.save(make_catalogue())
    with pytest.raises(Internal, match="no more changes until a restart"):
        file.save(make_catalogue())
    assert CatalogueFile(tmp_path).load() == first


def failing(number: int) -> object:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail
