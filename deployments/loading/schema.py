"""Which columns of a Parquet schema are the vector, the id and the payload. Pure decisions over Arrow schemas.

Vector: the column that was named; else the one called vector, embedding, emb or embeddings; else the only list of
floats. Id: the column that was named; else `id`; else none, and ids are generated. Payload: the columns that were
named; else all that remain. What can't be decided or loaded is refused with the columns that there are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from deployments.loading.keys import is_id_type
from deployments.loading.payload import EXTENSION_NAME, NoJsonForm, json_type
from deployments.loading.vectors import is_list_type, is_vector_type
from shards.errors import InvalidRequest

VECTOR_NAMES = ("vector", "embedding", "emb", "embeddings")
ID_NAME = "id"


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """What the caller asked for; None: decide by the schema. `generate_ids`: no column is the id, not even `id`."""

    id: str | None = None
    vector: str | None = None
    payload: tuple[str, ...] | None = None
    generate_ids: bool = False


BY_SCHEMA = ColumnChoice()


@dataclass(frozen=True, slots=True)
class Columns:
    """What was decided. `id` None: ids are generated."""

    id: str | None
    vector: str
    payload: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Every column that is read, each once."""
        return list(dict.fromkeys(name for name in (self.vector, self.id, *self.payload) if name is not None))


def choose_columns(schema: pa.Schema, choice: ColumnChoice, file: str) -> Columns:
    """Raises InvalidRequest, naming `file`, where the choice does not fit the schema."""
    if choice.generate_ids and choice.id is not None:
        raise InvalidRequest(f"ids are either generated or read from column `{choice.id}`, not both")
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise InvalidRequest(f"{file}: more than one column is called `{twice[0]}`; column names must differ")
    for name in (choice.id, choice.vector, *(choice.payload or ())):
        if name is not None and name not in schema.names:
            raise InvalidRequest(f"{file}: there is no column `{name}`; the columns are {_listed(schema)}")
    vector = _vector_column(schema, choice.vector, file)
    key = _id_column(schema, choice, file)
    if choice.payload is None:
        payload = tuple(name for name in schema.names if name not in (vector, key))
    else:
        payload = tuple(dict.fromkeys(choice.payload))
    for name in payload:
        _check_payload_column(schema.field(name), file)
    return Columns(key, vector, payload)


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


def _type_of(name: str, schema: pa.Schema) -> pa.DataType | None:
    return schema.field(name).type if schema.names.count(name) == 1 else None


def _vector_column(schema: pa.Schema, chosen: str | None, file: str) -> str:
    if chosen is not None:
        _check_vector_column(schema.field(chosen), file)
        return chosen
    fitting = [field.name for field in schema if is_vector_type(field.type) and not _is_extension(field)]
    candidates = [name for name in VECTOR_NAMES if name in fitting] or fitting
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise InvalidRequest(f"{file}: {_names(candidates)} could each be the vector; name the column")
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
