"""Which columns of a Parquet schema are the vectors, the id and the payload. Pure decisions over Arrow schemas.

Vectors: the columns that were named. Else, where points have the unnamed vector alone, the one called vector, embedding,
emb or embeddings, else the only list of floats; where they have named ones, the columns that are called like them (and
for an unnamed one beside them, one of the four usual names). Id: the column that was named; else `id`; else none, and
ids are generated. Payload: the columns that were named; else all that remain. What can't be decided or loaded is
refused with the columns that there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from deployments.loading.keys import is_id_type
from deployments.loading.payload import EXTENSION_NAME, NoJsonForm, json_type
from deployments.loading.vectors import is_list_type, is_vector_type
from shards.errors import InvalidRequest
from shards.vector_layout import UNNAMED

VECTOR_NAMES = ("vector", "embedding", "emb", "embeddings")
ID_NAME = "id"


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """What the caller asked for; None: decide by the schema. `vectors`: the column of each vector, by its name.
    `generate_ids`: no column is the id, not even `id`.
    """

    id: str | None = None
    vectors: Mapping[str, str] | None = None
    payload: tuple[str, ...] | None = None
    generate_ids: bool = False


BY_SCHEMA = ColumnChoice()


@dataclass(frozen=True, slots=True)
class Columns:
    """What was decided. `id` None: ids are generated. `vectors`: the column of each vector, by its name; at least one."""

    id: str | None
    vectors: Mapping[str, str]
    payload: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Every column that is read, each once."""
        every = (*self.vectors.values(), self.id, *self.payload)
        return list(dict.fromkeys(name for name in every if name is not None))


def choose_columns(
    schema: pa.Schema, choice: ColumnChoice, file: str, vector_names: Collection[str] = (UNNAMED,)
) -> Columns:
    """`vector_names`: the vectors that points may have. Raises InvalidRequest, naming `file`, where the choice does not
    fit the schema.
    """
    chosen = (choice.vectors or {}).values()
    if choice.generate_ids and choice.id is not None:
        raise InvalidRequest(f"ids are either generated or read from column `{choice.id}`, not both")
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise InvalidRequest(f"{file}: more than one column is called `{twice[0]}`; column names must differ")
    for name in (choice.id, *chosen, *(choice.payload or ())):
        if name is not None and name not in schema.names:
            raise InvalidRequest(f"{file}: there is no column `{name}`; the columns are {_listed(schema)}")
    vectors = _vector_columns(schema, choice, vector_names, file)
    key = _id_column(schema, choice, file)
    if choice.payload is None:
        payload = tuple(name for name in schema.names if name not in (*vectors.values(), key))
    else:
        payload = tuple(dict.fromkeys(choice.payload))
    for name in payload:
        _check_payload_column(schema.field(name), file)
    return Columns(key, vectors, payload)


def check_same_columns(
    expected: tuple[str, pa.Schema], other: tuple[str, pa.Schema], names: list[str] | None
) -> None:
    """Raises InvalidRequest unless both (file, schema) have the columns `names` (None: all that either has) alike."""
    (first_file, first), (file, schema) = expected, other
    for name in names if names is not None else dict.fromkeys([*first.names, *schema.names]):
        kind, other_kind = (_type_of(name, columns) for columns in (first, schema))
        if kind != other_kind:
            raise InvalidRequest(
                f"{file}: column `{name}` is {other_kind or 'missing'}, in {first_file} it is {kind or 'missing'};"
                " all files of a folder must have the same columns"
            )


def called(vector_name: str) -> str:
    """A vector's name in a sentence."""
    return f"vector `{vector_name}`" if vector_name else "unnamed vector"


def _type_of(name: str, schema: pa.Schema) -> pa.DataType | None:
    return schema.field(name).type if schema.names.count(name) == 1 else None


def _vector_columns(
    schema: pa.Schema, choice: ColumnChoice, vector_names: Collection[str], file: str
) -> dict[str, str]:
    if choice.vectors:
        for column in choice.vectors.values():
            _check_vector_column(schema.field(column), file)
        return dict(choice.vectors)
    fitting = [field.name for field in schema if is_vector_type(field.type) and not _is_extension(field)]
    if set(vector_names) == {UNNAMED}:
        return {UNNAMED: _unnamed_column(schema, fitting, file)}
    found = {name: name for name in vector_names if name in fitting}
    if UNNAMED in vector_names:
        usual = _only([name for name in VECTOR_NAMES if name in fitting and name not in found], file)
        found |= {} if usual is None else {UNNAMED: usual}
    if not found:
        names = _names(sorted(filter(None, vector_names)))
        raise InvalidRequest(
            f"{file}: no list of floats is called like a vector of the collection ({names}); say which column each vector"
            f" is (NAME=COLUMN); the columns are {_listed(schema)}"
        )
    return found


def _only(candidates: list[str], file: str) -> str | None:
    """The one that there is, or None. Raises InvalidRequest where there are more."""
    if len(candidates) > 1:
        raise InvalidRequest(f"{file}: {_names(candidates)} could each be the vector; name the column")
    return candidates[0] if candidates else None


def _unnamed_column(schema: pa.Schema, fitting: list[str], file: str) -> str:
    column = _only([name for name in VECTOR_NAMES if name in fitting] or fitting, file)
    if column is not None:
        return column
    for name in VECTOR_NAMES:
        if name in schema.names:
            _check_vector_column(schema.field(name), file)
    raise InvalidRequest(
        f"{file}: no column is a vector (a list of float16, float32 or float64); the columns are {_listed(schema)}"
    )


def _check_vector_column(field: pa.Field, file: str) -> None:
    if is_vector_type(field.type) and not _is_extension(field):
        return
    if is_list_type(field.type) and pa.types.is_integer(field.type.value_type):
        why = "integer vectors are not loaded; convert the column to float32"
    else:
        why = "a vector is a list of float16, float32 or float64"
    raise InvalidRequest(f"{file}: column `{field.name}` is {field.type}: {why}")


def _id_column(schema: pa.Schema, choice: ColumnChoice, file: str) -> str | None:
    name = choice.id if choice.id is not None else ID_NAME
    if choice.generate_ids or name not in schema.names:
        return None
    field = schema.field(name)
    if not is_id_type(field.type) or _is_extension(field):
        raise InvalidRequest(
            f"{file}: column `{name}` is {field.type}: an id is an integer or a UUID (text, or 16 bytes);"
            " name another id column, or have ids generated"
        )
    return name


def _check_payload_column(field: pa.Field, file: str) -> None:
    try:
        json_type(field)
    except NoJsonForm as reason:
        raise InvalidRequest(
            f"{file}: column `{field.name}` is {field.type}, which can't be payload: {reason};"
            " leave it out by naming the payload columns to keep"
        ) from reason


def _is_extension(field: pa.Field) -> bool:
    """Whether the file declares an extension type that is unknown here (Arrow then reads what is under it)."""
    return bool(field.metadata and EXTENSION_NAME in field.metadata)


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"`{field.name}` {field.type}" for field in schema) or "none"


def _names(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(f"`{name}`" for name in names[:-1]), f"`{names[-1]}`"]))
