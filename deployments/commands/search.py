"""`shoal search` and `shoal collections`: what is in a cluster, asked over its HTTP API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.options import ApiKeyOption, DataOption, JsonOption, UrlOption, cluster_client
from deployments.terminal import note, print_json, print_table
from shards.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from deployments.http_client import ClusterClient

PAYLOAD_WIDTH = 100
INTEGER_DIGITS_MAX = 20
_UNNAMED = ""
"""That of shards/vector_layout.py, which would bring numpy: a search waits a tenth of a second for it."""


def search(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION")],
    *,
    vector: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE", help="The vector to search near: a list of numbers, or a file that holds one."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Search near a point of the collection, which is left out itself."),
    ] = None,
    using: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default="the unnamed, or the only one", help="Which vector is compared."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many points to find.")] = 10,
    ef: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="the collection's", help="Candidates looked at in each graph: more finds more."
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Measure every point instead of using the graphs.")] = False,
    with_payload: Annotated[
        bool, typer.Option("--with-payload", help="Show what is stored with the points.")
    ] = False,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the points nearest to a vector, or to another point.

    \b
    Examples:
      shoal search glove --like 2562 --with-payload
      shoal search tiny --vector '[0.1, 0.7, 0.2]' --limit 3
      shoal search glove --vector @query.json --ef 256 --json
      shoal search news --like 17 --using title
    """  # fmt: skip
    if (vector is None) == (like is None):
        raise typer.BadParameter("give either --vector or --like")
    body: dict[str, Any] = {"limit": limit, "with_payload": with_payload, "params": {"exact": exact, "hnsw_ef": ef}}
    with cluster_client(data, url, api_key) as client:
        body["using"] = _compared(collection, _vectors_of(client.describe(collection)), using)
        if like is None:
            assert vector is not None
            hits = client.query(collection, {**body, "query": _vector(vector)})
        else:
            hits = _search_like(client, collection, _point_id(like), body)
    if as_json:
        print_json({"collection": collection, "hits": hits})
    elif not hits:
        note(f"`{collection}` has no points")
    else:
        _print_hits(hits, with_payload)


def collections(
    *, data: DataOption = None, url: UrlOption = None, api_key: ApiKeyOption = None, as_json: JsonOption = False
) -> None:
    """List the collections, with their points, vectors and shards.

    \b
    Examples:
      shoal collections
      shoal collections --json
    """
    with cluster_client(data, url, api_key) as client:
        found = [_summary(name, client.describe(name)) for name in client.collections()]
    if as_json:
        print_json({"collections": found})
    elif not found:
        note("there are no collections; `shoal load FILE --collection NAME --create` makes one")
    else:
        print_table(("collection", "points", "size", "distance", "m", "shards", "segments"),
                    [_row(**item) for item in found])  # fmt: skip


def _search_like(
    client: ClusterClient, collection: str, point_id: int | str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    found = client.retrieve(collection, [point_id], with_vector=[body["using"]])
    if not found:
        raise NotFound(f"the collection `{collection}` has no point {point_id}")
    vector = found[0]["vector"]
    if isinstance(vector, dict):  # those that it has, by their names
        vector = vector.get(body["using"])
    if vector is None:
        raise NotFound(f"point {point_id} of the collection `{collection}` has no {_called(body['using'])}")
    query = {**body, "query": vector, "limit": body["limit"] + 1}
    hits = [hit for hit in client.query(collection, query) if hit["id"] != found[0]["id"]]
    return hits[: body["limit"]]


def _vector(text: str) -> list[float]:
    """The numbers of `--vector`; what they mean to the collection is for the cluster to say."""
    where = "--vector"
    if text.startswith("@"):
        file = Path(text[1:])
        where = str(file)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{file} can't be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{where} is not a JSON list of numbers, such as [0.1, 0.2]: {error}") from None
    if isinstance(values, dict) and "query" in values:
        values = values["query"]  # a request's body, as for curl
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise InvalidRequest(f"{where} is not a JSON list of numbers, such as [0.1, 0.2]")
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _point_id(text: str) -> int | str:
    """An integer, or a UUID, which the cluster checks."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS_MAX else text


def _vectors_of(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Size and distance of each vector of a collection, by its name."""
    vectors: dict[str, Any] = described["config"]["params"]["vectors"]
    # A vector may be called `size`.
    return {_UNNAMED: vectors} if isinstance(vectors.get("size"), int) else vectors


def _compared(collection: str, vectors: dict[str, dict[str, Any]], using: str | None) -> str:
    """The name of the vector that a search compares. Raises InvalidRequest where there is none, or one has to be chosen."""
    name = next(iter(vectors)) if using is None and len(vectors) == 1 else using or _UNNAMED
    if name not in vectors:
        held = ", ".join(f"`{held}` of {vector['size']}" for held, vector in sorted(vectors.items()) if held)
        rest = f"choose by --using: {held}" if held else "its only vector has no name: leave out --using"
        raise InvalidRequest(f"the collection `{collection}` has no {_called(name)}; {rest}")
    return name


def _called(name: str) -> str:
    return f"vector `{name}`" if name else "unnamed vector"


def _summary(name: str, described: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "points": described["points_count"],
        "vectors": _vectors_of(described),
        "m": described["config"]["hnsw_config"]["m"],
        "shards": described["config"]["params"]["shard_number"],
        "segments": described["segments_count"],
    }


def _row(vectors: dict[str, dict[str, Any]], name: str, points: int, **numbers: int) -> tuple[Any, ...]:
    """A line of the table; one cell holds all sizes, a line for each vector, one all distances."""
    if vectors.keys() == {_UNNAMED}:
        (vector,) = vectors.values()
        return name, points, vector["size"], vector["distance"], *numbers.values()
    sizes = "\n".join(f"{held or 'unnamed'} {vector['size']}" for held, vector in sorted(vectors.items()))
    distances = "\n".join(vector["distance"] for _, vector in sorted(vectors.items()))
    return name, points, sizes, distances, *numbers.values()


def _print_hits(hits: list[dict[str, Any]], with_payload: bool) -> None:
    if not with_payload:
        print_table(("id", "score"), [(str(hit["id"]), hit["score"]) for hit in hits])
        return
    print_table(
        ("id", "score", "payload"),
        [(str(hit["id"]), hit["score"], _short(json.dumps(hit["payload"], ensure_ascii=False))) for hit in hits],
    )


def _short(text: str) -> str:
    return text if len(text) <= PAYLOAD_WIDTH else text[: PAYLOAD_WIDTH - 3] + "..."
