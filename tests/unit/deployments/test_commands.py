"""`shoal load`, `search` and `collections` as they are typed, for collections with several vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments.cli import main
from deployments.http_app import HttpApp
from deployments.http_client import ClusterClient
from deployments.limits import LimitSettings
from tests.http_server import serving
from tests.unit.deployments.fake_cluster import FakeCluster

NEWS = {"image": {"size": 2, "distance": "Euclid"}, "size": {"size": 3, "distance": "Cosine"}}
POINTS = [
    {"id": 1, "vector": {"image": [0, 0], "size": [1, 0, 0]}},
    {"id": 2, "vector": {"image": [0, 1], "size": [0, 1, 0]}},
    {"id": 3, "vector": {"image": [5, 5]}},
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A cluster with `news` (see NEWS), `one` with a single named vector, and `plain`."""
    with serving(HttpApp(FakeCluster(), LimitSettings(), "0")) as where, ClusterClient(where) as client:
        client.call("PUT", "/collections/news", {"vectors": NEWS})
        client.call("PUT", "/collections/news/points", {"points": POINTS})
        client.call("PUT", "/collections/one", {"vectors": {"image": NEWS["image"]}})
        client.call("PUT", "/collections/one/points", {"points": [{"id": 1, "vector": {"image": [0, 0]}}]})
        client.call("PUT", "/collections/plain", {"vectors": {"size": 2, "distance": "Dot"}})
        client.call("PUT", "/collections/plain/points", {"points": [{"id": 1, "vector": [1, 2]}]})
        yield where


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def ids(answer: dict[str, Any]) -> list[int]:
    return [hit["id"] for hit in answer["hits"]]


def test_a_search_compares_the_vector_that_it_names(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ids(found(capsys, "search", "news", "--vector", "[0, 1]", "--using", "image", "--url", url)) == [2, 1, 3]
    assert ids(found(capsys, "search", "news", "--like", "1", "--using", "image", "--url", url)) == [2, 3]
    assert ids(found(capsys, "search", "news", "--like", "1", "--using", "size", "--url", url)) == [2]
    assert ids(found(capsys, "search", "one", "--vector", "[0, 1]", "--url", url)) == [1]
    assert ids(found(capsys, "search", "plain", "--vector", "[0, 1]", "--url", url)) == [1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["news", "--like", "1"], "`news` has no unnamed vector; choose by --using: `image` of 2, `size` of 3"),
        (
            ["news", "--like", "1", "--using", "x"],
            "`news` has no vector `x`; choose by --using: `image` of 2, `size`",
        ),
        (["plain", "--like", "1", "--using", "x"], "no vector `x`; its only vector has no name: leave out --using"),
        (["news", "--like", "3", "--using", "size"], "point 3 of the collection `news` has no vector `size`"),
        (["news", "--like", "9", "--using", "size"], "the collection `news` has no point 9"),
    ],
)
def test_a_search_that_cannot_be(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["search", *arguments, "--url", url]) == 1
    assert sentence in capsys.readouterr().err


def test_collections_show_each_vector(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = found(capsys, "collections", "--url", url)["collections"]
    assert [(item["name"], item["vectors"]) for item in listed] == [
        ("news", NEWS),
        ("one", {"image": NEWS["image"]}),
        ("plain", {"": {"size": 2, "distance": "Dot"}}),
    ]
    assert main(["collections", "--url", url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["news", "3", "image", "2", "Euclid", "16", "1", "1"] in lines
    assert ["size", "3", "Cosine"] in lines
    assert ["plain", "1", "2", "Dot", "16", "1", "1"] in lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    floats = pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"a": floats, "b=c": floats}), tmp_path / "f.parquet")
    (tmp_path / "secret").write_text("00" * 32)
    return tmp_path / "f.parquet"


@pytest.mark.parametrize(
    ("options", "described"),
    [
        (["--vector", "a"], "vectors of 2 from `a`, "),
        (["--vector", "=b=c"], "vectors of 2 from `b=c`, "),
        (["--vector", "x=a", "--vector", "y=b=c"], "vector `x` of 2 from `a`, vector `y` of 2 from `b=c`, "),
        (["--vector", "x=b=c", "--vector", "a"], "unnamed vector of 2 from `a`, vector `x` of 2 from `b=c`, "),
    ],
)
def test_vectors_are_named_on_the_command_line(
    file: Path, capsys: pytest.CaptureFixture[str], options: list[str], described: str
) -> None:
    nowhere = ["--data", str(file.parent), "--url", "http://127.0.0.1:1"]
    assert main(["load", str(file), "-c", "news", "--create", *options, *nowhere]) == 3
    assert f"f.parquet: 2 rows, {described}ids generated" in capsys.readouterr().err


def test_columns_are_looked_at_for_a_collection_that_is_there(
    url: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(file.parent), "--url", url]
    assert main(["load", str(file), "-c", "absent", *where]) == 1
    assert "there is no collection `absent`; add --create" in capsys.readouterr().err
    assert main(["load", str(file), "-c", "news", *where]) == 1
    assert (
        "no list of floats is called like a vector of the collection (`image` and `size`)" in capsys.readouterr().err
    )
    assert main(["load", str(file), "-c", "news", "--vector", "size=a", *where]) == 1
    told = capsys.readouterr().err
    assert "vector `size` of 2 from `a`, no vector `image`, ids generated" in told
    assert "column `a` have 2 components, those of collection `news` as vector `size` 3; nothing was sent" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vector", "x="], "--vector 'x=' names no column"),
        (["--vector", "x=a", "--vector", "x=b"], "--vector gives two columns for the vector 'x'"),
        (["--vector", "a", "--vector", "b"], "--vector gives two columns for the unnamed vector"),
    ],
)
def test_vectors_that_make_no_sense(
    file: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["load", str(file), "-c", "news", "--create", *options]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
