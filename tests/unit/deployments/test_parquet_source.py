"""Files and folders: what is read in which order, where bad rows are, and the sentence for each unreadable file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments.loading.bad_rows import BadRow, RejectsFile, RowPlace, fail
from deployments.loading.schema import ColumnChoice
from deployments.loading.source import ParquetSource, SourceBatch, SourceVector, open_source
from shards.distance import Distance
from shards.errors import DimensionMismatch, InvalidRequest, NotFound
from shards.point_ids import key_list
from shards.schema import CollectionSpec, VectorSpec
from tests.shard_oracle import spec_of

FIXED = pa.list_(pa.float32(), 2)
RAGGED = pa.list_(pa.float64())


def words(first: int, count: int) -> pa.Table:
    numbers = range(first, first + count)
    text = pa.array([f"w{number}" for number in numbers], pa.string())
    return pa.table({"word": text, "vector": pa.array([[number, 0.5] for number in numbers], FIXED)})


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def read(source: ParquetSource, batch_rows: int = 4, dim: int = 2) -> list[SourceBatch]:
    return list(source.batches(batch_rows, spec_of(dim=dim), fail))


def keys_of(batches: list[SourceBatch]) -> list[int]:
    return [key for item in batches for key in key_list(item.batch.keys)]


def test_a_file_in_batches_that_stay_within_row_groups(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "words.parquet", words(0, 10), row_group_size=6))
    assert (source.row_count, source.vectors) == (10, [SourceVector("", "vector", 2, True)])
    assert (source.id_column, source.payload_columns) == (None, ("word",))
    assert source.describe() == (
        "words.parquet: 10 rows, vectors of 2 from `vector`, ids generated from row numbers, payload `word`"
    )
    batches = read(source)
    assert [(len(item.batch), str(item.place)) for item in batches] == [
        (4, "words.parquet: row group 0, row 0 (file row 0)"),
        (2, "words.parquet: row group 0, row 4 (file row 4)"),
        (4, "words.parquet: row group 1, row 0 (file row 6)"),
    ]
    assert keys_of(batches) == list(range(10))
    assert batches[1].batch.vectors.tolist() == [[4, 0.5], [5, 0.5]]
    assert batches[1].batch.payload(1) == b'{"word":"w5"}'
    assert keys_of(read(source)) == list(range(10)), "it can be read again"


def test_a_folder_by_name_with_ids_counted_on(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", words(3, 2))
    write(tmp_path / "a.parquet", words(0, 3))
    write(tmp_path / "c.parquet", words(0, 0))
    for ignored in (".a.parquet", "_metadata.parquet", "notes.txt"):
        (tmp_path / ignored).write_text("not read")
    source = open_source(tmp_path)
    assert source.describe().startswith("3 files from a.parquet on: 5 rows, ")
    batches = read(source)
    assert keys_of(batches) == list(range(5))
    assert [vector[0] for item in batches for vector in item.batch.vectors.tolist()] == [0, 1, 2, 3, 4]
    assert batches[1].place == RowPlace("b.parquet", 0, 0, 0)


def test_ids_and_payload_as_chosen(tmp_path: Path) -> None:
    table = words(0, 2).append_column("nr", pa.array([7, 9]))
    source = open_source(write(tmp_path / "f.parquet", table), ColumnChoice(id="nr", payload=()))
    (batch,) = read(source)
    assert keys_of([batch]) == [7, 9]
    assert batch.batch.payload(0) == b""
    assert source.describe().endswith("ids from `nr`, payload none")


def test_the_dimension_of_a_plain_list_is_that_of_its_first_vector(tmp_path: Path) -> None:
    vectors = pa.array([None] * 300 + [[], [1, 2, 3], [1]], RAGGED)
    source = open_source(write(tmp_path / "f.parquet", pa.table({"v": vectors}), row_group_size=100))
    assert source.vectors == [SourceVector("", "v", 3, False)]


def test_payload_numbers_that_became_null_are_counted(tmp_path: Path) -> None:
    table = words(0, 2).append_column("x", pa.array([float("nan"), 1.0]))
    (batch,) = read(open_source(write(tmp_path / "f.parquet", table)))
    assert batch.nulled_count == 1
    assert batch.batch.payload(0) == b'{"word":"w0","x":null}'


NEWS = CollectionSpec(
    vectors={
        "title": VectorSpec(size=2, distance=Distance.COSINE),
        "image": VectorSpec(size=3, distance=Distance.EUCLID),
        "audio": VectorSpec(size=1, distance=Distance.DOT),
    }
)


def news(**columns: list[list[float] | None]) -> pa.Table:
    return pa.table({"id": [7, 8], **{name: pa.array(values, RAGGED) for name, values in columns.items()}})


def test_named_vectors_and_those_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", news(title=[[1, 2], [3, 4]], image=[None, [5, 6, 7]], other=[[0], None]))
    source = open_source(path, collection=NEWS)
    assert source.vectors == [SourceVector("image", "image", 3, False), SourceVector("title", "title", 2, False)]
    assert source.missing == ["audio"]
    assert source.describe() == (
        "f.parquet: 2 rows, vector `image` of 3 from `image`, vector `title` of 2 from `title`, no vector `audio`,"
        " ids from `id`, payload `other`"
    )
    (item,) = source.batches(4, NEWS, fail)
    assert [repr(row) for row in item.batch.vectors.tolist()] == [
        "[nan, nan, nan, nan, 1.0, 2.0]",
        "[nan, 5.0, 6.0, 7.0, 3.0, 4.0]",
    ]
    assert [item.batch.payload(row) for row in range(2)] == [b'{"other":[0.0]}', b"{}"]


def test_named_vectors_of_a_new_collection_are_the_columns_that_were_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", news(a=[[1], None], b=[[1, 2], [3, 4]]))
    source = open_source(path, ColumnChoice(vectors={"title": "b", "": "a"}))
    assert source.describe() == (
        "f.parquet: 2 rows, unnamed vector of 1 from `a`, vector `title` of 2 from `b`, ids from `id`, payload none"
    )
    assert source.missing == []


def test_a_column_without_any_vector_fits_where_the_size_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", news(title=[[1, 2], [3, 4]], image=[None, None]))
    source = open_source(path, collection=NEWS)
    assert "vector `image`, null in every row, from `image`" in source.describe()
    (item,) = source.batches(4, NEWS, fail)
    assert item.row_count == 2
    with pytest.raises(InvalidRequest, match="no row has a vector in column `image`"):
        open_source(path, ColumnChoice(vectors={"image": "image"}))


def test_a_vector_that_the_collection_does_not_have(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "f.parquet", words(0, 2)), ColumnChoice(vectors={"a": "vector"}))
    with pytest.raises(InvalidRequest, match="Not existing vector name error: a"):
        next(source.batches(10, NEWS, fail))


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Nine rows in groups of 5 and 4; rows 2, 6 and 8 are bad."""
    vectors: list[list[float] | None] = [[number, 1] for number in range(9)]
    vectors[2], vectors[6] = [1, 2, 3], None
    ids = pa.array([*range(100, 108), -1])
    return write(tmp_path / "flawed.parquet", pa.table({"id": ids, "v": pa.array(vectors, RAGGED)}), row_group_size=5)


def test_fail_stops_at_the_first_bad_row_with_its_place(flawed: Path) -> None:
    batches = open_source(flawed).batches(2, spec_of(dim=2), fail)
    assert next(batches).row_count == 2
    with pytest.raises(InvalidRequest) as refusal:
        next(batches)
    assert refusal.value.message == (
        "flawed.parquet: row group 0, row 2 (file row 2): column `v`: the vector has 3 components, expected 2"
    )


def test_rejects_are_written_down_and_the_rest_is_read(flawed: Path, tmp_path: Path) -> None:
    rejects = RejectsFile(tmp_path / "rejects.jsonl")
    with rejects:
        batches = list(open_source(flawed).batches(3, spec_of(dim=2), rejects))
    assert keys_of(batches) == [100, 101, 103, 104, 105, 107]
    assert [(len(item.batch), item.rejected_count) for item in batches] == [(2, 1), (2, 0), (2, 1), (0, 1)]
    assert rejects.count == 3
    lines = [orjson.loads(line) for line in rejects.path.read_bytes().splitlines()]
    assert lines[0] == {
        "file": "flawed.parquet",
        "row_group": 0,
        "row": 2,
        "file_row": 2,
        "id": 102,
        "reason": "column `v`: the vector has 3 components, expected 2",
    }
    assert [(line["row_group"], line["row"], line["file_row"], line["id"], line["reason"]) for line in lines[1:]] == [
        (1, 1, 6, 106, "column `v`: the vector is null"),
        (1, 3, 8, -1, "the id -1 is negative"),
    ]


def test_generated_ids_count_bad_rows_too(flawed: Path) -> None:
    told: list[BadRow] = []
    source = open_source(flawed, ColumnChoice(generate_ids=True))
    assert keys_of(list(source.batches(3, spec_of(dim=2), told.append))) == [0, 1, 3, 4, 5, 7, 8]
    assert [bad_row.id for bad_row in told] == [2, 6]


def test_a_rejects_file_that_holds_something_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "words.parquet"
    path.write_text("precious")
    with pytest.raises(InvalidRequest, match="exists already"):
        RejectsFile(path).__enter__()
    assert path.read_text() == "precious"


def test_an_empty_rejects_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    path.touch()
    with RejectsFile(path):
        assert path.exists()
    assert not path.exists()


def test_a_rejects_file_that_cannot_be_written_is_found_before_the_load(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"rejects can't be written: No such file or directory"):
        RejectsFile(tmp_path / "missing" / "rejects").__enter__()


def test_a_declared_width_that_cannot_fit_is_refused_at_once(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "f.parquet", words(0, 2)))
    told: list[BadRow] = []
    with pytest.raises(DimensionMismatch, match="have 2 components, expected 5"):
        next(source.batches(10, spec_of(dim=5), told.append))
    assert told == []


def refusal_of(path: Path) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        open_source(path)
    return refusal.value.message


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    whole = write(path, words(0, 3)).read_bytes()
    for content, sentence in [
        (b"", "f.parquet is empty (0 bytes)"),
        (b"id,word\n1,a\n", "f.parquet is not a Parquet file: it starts with b'id,w', not b'PAR1'"),
        (b"PAR", "f.parquet is not a Parquet file: it starts with b'PAR', not b'PAR1'"),
        (
            whole[:-1],
            f"f.parquet is a Parquet file that was cut short: its end is missing after {len(whole) - 1:,} bytes",
        ),
        (b"PAR1", "f.parquet can't be read: "),
        (b"PARE" + whole[4:-4] + b"PARE", "f.parquet is an encrypted Parquet file; these are not read"),
        (whole[:-6] + b"\xff\xff" + whole[-4:], "f.parquet can't be read: "),
    ]:
        path.write_bytes(content)
        assert refusal_of(path).startswith(sentence)
        assert "\n" not in refusal_of(path)


def test_a_damaged_page_is_named_by_its_row_group(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", words(0, 10), row_group_size=5, compression="none", write_page_checksum=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"w7", b"w8"))  # row 7 is in row group 1
    batches = open_source(path).batches(5, spec_of(dim=2), fail)
    next(batches)
    with pytest.raises(InvalidRequest, match=r"^f.parquet: row group 1 can't be read: .*CRC") as refusal:
        next(batches)
    assert "\n" not in refusal.value.message


def test_places_without_rows(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere: there is no such file or folder"):
        open_source(tmp_path / "nowhere")
    assert refusal_of(tmp_path).endswith("the folder has no *.parquet file")
    path = write(tmp_path / "f.parquet", words(0, 0))
    assert refusal_of(path).endswith("f.parquet: there are no rows")
    write(path, pa.table({"v": pa.array([None, []], RAGGED)}))
    assert refusal_of(path).endswith("no row has a vector in column `v`")


def test_files_of_a_folder_that_disagree(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", words(0, 1))
    write(tmp_path / "b.parquet", words(0, 1).append_column("extra", pa.array([1])))
    assert refusal_of(tmp_path) == (
        "b.parquet: column `extra` is int64, in a.parquet it is missing;"
        " all files of a folder must have the same columns"
    )
    assert open_source(tmp_path, ColumnChoice(payload=("word",))).row_count == 2


def test_a_column_name_with_dots(tmp_path: Path) -> None:
    table = pa.table({"a": [1], "a.b": [2], "s": [{"t": 3}], "v.x": pa.array([[1, 2]], FIXED)})
    (batch,) = read(open_source(write(tmp_path / "f.parquet", table)))
    assert batch.batch.payload(0) == b'{"a":1,"a.b":2,"s":{"t":3}}'
