"""Which columns are taken, and the sentences for schemas that can't be loaded."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from deployments.loading.schema import BY_SCHEMA, ColumnChoice, Columns, check_same_columns, choose_columns
from shards.errors import InvalidRequest

FLOATS = pa.list_(pa.float32())
WORDS = pa.schema({"id": pa.int64(), "word": pa.string(), "vector": FLOATS})


@pytest.mark.parametrize("width", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("make_list", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 3)])
def test_every_list_of_floats_can_be_the_vector(
    make_list: Callable[[pa.DataType], pa.DataType], width: pa.DataType
) -> None:
    schema = pa.schema({"other": pa.int8(), "x": make_list(width)})
    assert choose_columns(schema, BY_SCHEMA, "f") == Columns(None, {"": "x"}, ("other",))


@pytest.mark.parametrize("name", ["vector", "embedding", "emb", "embeddings"])
def test_a_usual_name_wins_over_another_list(name: str) -> None:
    schema = pa.schema({"a": FLOATS, name: FLOATS, "b": FLOATS})
    assert choose_columns(schema, BY_SCHEMA, "f").vectors == {"": name}


def test_a_usual_name_of_another_type_does_not() -> None:
    schema = pa.schema({"embedding": pa.string(), "v": FLOATS})
    assert choose_columns(schema, BY_SCHEMA, "f") == Columns(None, {"": "v"}, ("embedding",))


@pytest.mark.parametrize(
    ("choice", "columns"),
    [
        (BY_SCHEMA, Columns("id", {"": "vector"}, ("word",))),
        (ColumnChoice(generate_ids=True), Columns(None, {"": "vector"}, ("id", "word"))),
        (ColumnChoice(payload=()), Columns("id", {"": "vector"}, ())),
        (ColumnChoice(payload=("word", "id", "word")), Columns("id", {"": "vector"}, ("word", "id"))),
        (ColumnChoice(id="word", vectors={"": "vector"}), Columns("word", {"": "vector"}, ("id",))),
    ],
)
def test_what_is_asked_for_is_taken(choice: ColumnChoice, columns: Columns) -> None:
    assert choose_columns(WORDS, choice, "f") == columns


def test_each_column_is_read_once() -> None:
    assert Columns("id", {"a": "v", "b": "w", "c": "v"}, ("id", "a", "w")).names == ["v", "w", "id", "a"]


PAIR = pa.schema({"title": FLOATS, "image": FLOATS, "vector": FLOATS, "text": pa.string()})


@pytest.mark.parametrize(
    ("names", "chosen", "vectors"),
    [
        (["title", "image"], None, {"title": "title", "image": "image"}),
        (["title", "audio", "text"], None, {"title": "title"}),
        (["title", ""], None, {"title": "title", "": "vector"}),
        (["vector", "title", ""], None, {"vector": "vector", "title": "title"}),
        (["title", "image"], {"title": "vector"}, {"title": "vector"}),
        (["title", "image"], {"title": "vector", "image": "vector"}, {"title": "vector", "image": "vector"}),
        ([""], {"a": "image", "": "title"}, {"a": "image", "": "title"}),
    ],
)
def test_named_vectors_are_the_columns_that_are_named_or_called_like_them(
    names: list[str], chosen: dict[str, str] | None, vectors: dict[str, str]
) -> None:
    columns = choose_columns(PAIR, ColumnChoice(vectors=chosen), "f", names)
    assert columns.vectors == vectors
    assert set(columns.payload) == set(PAIR.names) - set(vectors.values())


@pytest.mark.parametrize(
    ("names", "schema", "sentence"),
    [
        (
            ["title", "image", ""],
            pa.schema({"title": pa.string(), "x": FLOATS}),
            "f: no list of floats is called like a vector of the collection (`image` and `title`); say which column each"
            " vector is (NAME=COLUMN); the columns are `title` string, `x` list<item: float>",
        ),
        (["a", ""], pa.schema({"a": FLOATS, "emb": FLOATS, "vector": FLOATS}), "f: `vector` and `emb` could each be"),
    ],
)
def test_columns_called_like_no_vector_are_listed(names: list[str], schema: pa.Schema, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        choose_columns(schema, BY_SCHEMA, "f", names)
    assert refusal.value.message.startswith(sentence)


def of(**kinds: pa.DataType) -> pa.Schema:
    return pa.schema(kinds)


EXTENSION = pa.schema([pa.field("v", FLOATS, metadata={"ARROW:extension:name": "ray.data.arrow_tensor"})])
TENSOR = pa.fixed_shape_tensor(pa.float32(), [2])


@pytest.mark.parametrize(
    ("schema", "choice", "sentence"),
    [
        (
            WORDS,
            ColumnChoice(vectors={"": "v"}),
            "there is no column `v`; the columns are `id` int64, `word` string, `vector` ",
        ),
        (WORDS, ColumnChoice(vectors={"a": "vector", "b": "x"}), "there is no column `x`; "),
        (WORDS, ColumnChoice(vectors={"a": "vector", "b": "word"}), "column `word` is string: a vector is a list of"),
        (WORDS, ColumnChoice(payload=("x",)), "there is no column `x`; "),
        (WORDS, ColumnChoice(id="x"), "there is no column `x`; "),
        (
            WORDS,
            ColumnChoice(vectors={"": "word"}),
            "column `word` is string: a vector is a list of float16, float32 or",
        ),
        (WORDS, ColumnChoice(id="vector"), "column `vector` is list<item: float>: an id is an integer or a UUID"),
        (of(a=FLOATS, b=FLOATS, c=FLOATS), BY_SCHEMA, "`a`, `b` and `c` could each be the vector; name the column"),
        (of(emb=FLOATS, vector=FLOATS), BY_SCHEMA, "`vector` and `emb` could each be the vector"),
        (
            of(a=pa.int8()),
            BY_SCHEMA,
            "no column is a vector (a list of float16, float32 or float64); the columns are `a`",
        ),
        (of(vector=pa.list_(pa.int64())), BY_SCHEMA, "column `vector` is list<item: int64>: integer vectors are not"),
        (EXTENSION, BY_SCHEMA, "no column is a vector"),
        (EXTENSION, ColumnChoice(vectors={"": "v"}), "a vector is a list of"),
        (of(vector=TENSOR), BY_SCHEMA, "column `vector` is extension<arrow.fixed_shape_tensor"),
        (
            of(id=pa.float64(), v=FLOATS),
            BY_SCHEMA,
            "column `id` is double: an id is an integer or a UUID (text, or 16",
        ),
        (of(id=pa.bool_(), v=FLOATS), BY_SCHEMA, "name another id column, or have ids generated"),
        (of(id=pa.binary(8), v=FLOATS), BY_SCHEMA, "column `id` is fixed_size_binary[8]: an id is"),
        (
            of(img=pa.binary(), v=FLOATS),
            BY_SCHEMA,
            "column `img` is binary, which can't be payload: binary has no form in",
        ),
        (of(img=pa.binary(), v=FLOATS), BY_SCHEMA, "leave it out by naming the payload columns to keep"),
        (of(a=pa.struct({"b": pa.large_binary()}), v=FLOATS), BY_SCHEMA, "large_binary has no form in JSON"),
        (of(a=pa.list_(pa.duration("s")), v=FLOATS), BY_SCHEMA, "duration[s] has no form in JSON"),
        (of(a=pa.map_(pa.int8(), pa.int8()), v=FLOATS), BY_SCHEMA, "the keys of a map must be text to become a JSON"),
        (of(a=TENSOR, v=FLOATS), BY_SCHEMA, "extension types are not read (only Arrow's own uuid is)"),
        (of(a=pa.struct(EXTENSION), v=FLOATS), ColumnChoice(vectors={"": "v"}), "extension types are not read"),
        (pa.schema([("a", FLOATS), ("a", FLOATS)]), BY_SCHEMA, "more than one column is called `a`"),
        (WORDS, ColumnChoice(id="id", generate_ids=True), "ids are either generated or read from column `id`"),
    ],
)
def test_refusals_say_what_and_where(schema: pa.Schema, choice: ColumnChoice, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        choose_columns(schema, choice, "words.parquet")
    assert sentence in refusal.value.message
    assert refusal.value.message.startswith("words.parquet: ") or choice.generate_ids


def test_a_refused_column_may_stay_unread() -> None:
    schema = of(img=pa.binary(), v=FLOATS, a=pa.int8())
    assert choose_columns(schema, ColumnChoice(payload=("a",)), "f").payload == ("a",)


@pytest.mark.parametrize(
    ("other", "names", "sentence"),
    [
        (of(v=FLOATS), None, "2: column `a` is missing, in 1 it is int8; all files of a folder must have the same"),
        (of(v=FLOATS, a=pa.int8(), b=pa.int8()), None, "2: column `b` is int8, in 1 it is missing"),
        (
            of(v=pa.list_(pa.float32(), 2), a=pa.int8()),
            ["v"],
            "2: column `v` is fixed_size_list<item: float>[2], in 1 it",
        ),
        (of(v=FLOATS, a=pa.int16()), ["v"], None),
        (of(a=pa.int8(), v=pa.list_(pa.field("element", pa.float32()))), None, None),
    ],
)
def test_files_of_a_folder_must_agree_on_what_is_read(
    other: pa.Schema, names: list[str] | None, sentence: str | None
) -> None:
    expected = ("1", of(v=FLOATS, a=pa.int8()))
    if sentence is None:
        check_same_columns(expected, ("2", other), names)
        return
    with pytest.raises(InvalidRequest) as refusal:
        check_same_columns(expected, ("2", other), names)
    assert refusal.value.message.startswith(sentence)
