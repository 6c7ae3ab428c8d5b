"""`shoal load`: points from Parquet files into a collection."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deployments.commands.options import ApiKeyOption, DataOption, JsonOption, UrlOption, cluster_client, read_secret
from deployments.terminal import LoadBar, note, print_json
from shards.errors import InvalidRequest

if TYPE_CHECKING:
    from deployments.http_client import ClusterClient
    from deployments.loading.bad_rows import BadRow, BadRowPolicy
    from deployments.loading.load import LoadOrder, LoadReport
    from deployments.loading.schema import ColumnChoice
    from deployments.loading.source import ParquetSource
    from deployments.loading.target import NewCollection

_NEW = "Of a new collection"
_COLUMNS = "Columns"
DistanceName = Literal["Cosine", "Dot", "Euclid", "Manhattan"]


PathArgument = Annotated[
    Path, typer.Argument(metavar="FILE|FOLDER", help="A Parquet file, or a folder of *.parquet files.")
]
CollectionOption = Annotated[str, typer.Option("--collection", "-c", metavar="NAME", help="Where the points go.")]
CreateOption = Annotated[
    bool, typer.Option("--create", help="Make the collection; its vectors' sizes are the file's.")
]
DistanceOption = Annotated[
    DistanceName | None,
    typer.Option(show_default="Cosine", case_sensitive=False, rich_help_panel=_NEW, help="What makes two near."),
]
MOption = Annotated[
    int | None, typer.Option("--m", rich_help_panel=_NEW, show_default="16", help="Links of a node in the graph.")
]
EfConstructionOption = Annotated[
    int | None,
    typer.Option(rich_help_panel=_NEW, show_default="200", help="Candidates looked at for a node's links."),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        rich_help_panel=_COLUMNS,
        show_default="`id`, else rows are numbered",
        help="The ids: integers or UUIDs.",
    ),
]
GenerateIdsOption = Annotated[
    bool,
    typer.Option("--generate-ids", rich_help_panel=_COLUMNS, help="Number the rows, even if there is an `id`."),
]
VectorOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN|NAME=COLUMN",
        rich_help_panel=_COLUMNS,
        show_default="`vector`, `embedding`, or the only one; of a collection with named vectors those called like them",
        help="The vectors: lists of floats. For several named ones, give it for each.",
    ),
]
PayloadOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,...",
        rich_help_panel=_COLUMNS,
        show_default="all others",
        help="Stored with each point; '' for none.",
    ),
]
RejectsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default="stop at the first bad row",
        help="Skip bad rows, and write where they are and why to this file, one JSON object a line.",
    ),
]
BatchRowsOption = Annotated[
    int | None, typer.Option(min=1, max=65_536, show_default="4096", help="Rows read and sent at once.")
]


def load(
    path: PathArgument,
    *,
    collection: CollectionOption,
    create: CreateOption = False,
    distance: DistanceOption = None,
    m: MOption = None,
    ef_construction: EfConstructionOption = None,
    id_column: IdOption = None,
    generate_ids: GenerateIdsOption = False,
    vector: VectorOption = None,
    payload: PayloadOption = None,
    rejects: RejectsOption = None,
    batch_rows: BatchRowsOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load points from Parquet into a collection, all or nothing.

    Nobody sees a point before all are there; a load that fails or is interrupted leaves nothing, and removes the
    collection that it made. Of rows with the same id the last wins; a point that exists already is replaced.
    With named vectors a null means that a point does not have that vector. Needs the cluster's data folder, so it runs
    on the machine that has it.

    \b
    Examples:
      shoal load articles.parquet --collection articles --create
      shoal load shards/ -c articles --id doc_id --vector emb --payload title,year
      shoal load dirty.parquet -c articles --rejects dirty.jsonl
      shoal load news.parquet -c news --create --vector title=t --vector image=i
    """  # fmt: skip
    new = _new_collection(create, distance, m, ef_construction)
    choice = _choice(id_column, generate_ids, vector, payload)
    with ExitStack() as stack:
        policy: BadRowPolicy = _stop
        if rejects is not None:
            from deployments.loading.bad_rows import RejectsFile

            policy = stack.enter_context(RejectsFile(rejects))
        from deployments.loading.load import BATCH_ROWS, LoadOrder

        client = stack.enter_context(cluster_client(data, url, api_key))
        source = _source(path, choice, None if create else collection, client)
        order = LoadOrder(source, collection, new, batch_rows or BATCH_ROWS, policy)
        started = perf_counter()
        report = run_load(order, client, read_secret(data))
        elapsed_s = perf_counter() - started
    if as_json:
        print_json({
            "collection": collection,
            "created": create,
            **asdict(report),
            "rejects_file": str(rejects) if report.rejected else None,
            "seconds": round(elapsed_s, 3),
            "rows_per_s": round(report.rows / elapsed_s, 1),
        })  # fmt: skip
    else:
        _tell(report, collection, elapsed_s, rejects)


def run_load(order: LoadOrder, client: ClusterClient, secret: bytes) -> LoadReport:
    """Run an order with a progress bar, and close the client. Ctrl-C ends it with nothing left behind: KeyboardInterrupt."""
    import uvloop

    from deployments.http_control import HttpControlPlane
    from deployments.loading.load import load as run

    note(order.source.describe())
    with (
        client,
        LoadBar(f"loading `{order.collection}`") as bar,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(run(order, HttpControlPlane(client), secret, bar))


def _source(path: Path, choice: ColumnChoice, existing: str | None, client: ClusterClient) -> ParquetSource:
    """The file or folder; a collection that exists decides over its columns."""
    from deployments.loading.source import open_source
    from deployments.loading.target import existing_spec

    spec = None if existing is None else existing_spec(existing, client.state())
    return open_source(path, choice, spec)


def _choice(
    id_column: str | None, generate_ids: bool, vectors: list[str] | None, payload: str | None
) -> ColumnChoice:
    from deployments.loading.schema import ColumnChoice

    names = None if payload is None else tuple(name.strip() for name in payload.split(",") if name.strip())
    return ColumnChoice(id_column, _vector_columns(vectors or []), names, generate_ids)


def _vector_columns(given: list[str]) -> dict[str, str]:
    """The column of each vector, by its name. `=COLUMN` is the unnamed vector, too: so a column's name may hold a `=`."""
    columns: dict[str, str] = {}
    for text in given:
        name, equals, column = text.partition("=")
        if not equals:
            name, column = "", text
        if not column:
            raise typer.BadParameter(f"--vector {text!r} names no column: COLUMN or NAME=COLUMN")
        if name in columns:
            which = f"the vector {name!r}" if name else "the unnamed vector (for a named one: NAME=COLUMN)"
            raise typer.BadParameter(f"--vector gives two columns for {which}")
        columns[name] = column
    return columns


def _new_collection(
    create: bool, distance: str | None, m: int | None, ef_construction: int | None
) -> NewCollection | None:
    """What --create and its companions ask for. Raises InvalidRequest for numbers that no graph can have."""
    given = {"m": m, "ef_construction": ef_construction}
    hnsw = {name: value for name, value in given.items() if value is not None}
    if not create:
        if distance is not None or hnsw:
            raise typer.BadParameter("--distance, --m and --ef-construction describe a new collection: add --create")
        return None
    from pydantic import ValidationError

    from deployments.loading.target import NewCollection
    from shards.distance import Distance
    from shards.schema import HnswSpec

    try:
        return NewCollection(Distance(distance or Distance.COSINE), HnswSpec.model_validate(hnsw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = str(first["loc"][0]).replace("_", "-")
        raise InvalidRequest(f"--{flag} {first['input']} is refused: {first['msg']}") from None


def _stop(bad_row: BadRow) -> None:
    raise InvalidRequest(f"{bad_row}; nothing was loaded (--rejects FILE loads the rows that are fine)")


def _tell(report: LoadReport, collection: str, elapsed_s: float, rejects: Path | None) -> None:
    rate = report.rows / elapsed_s
    print(f"loaded {report.rows:,} rows into `{collection}` in {elapsed_s:.1f} s ({rate:,.0f} rows/s)")
    if report.replaced:
        print(f"  {report.replaced:,} rows replaced by a later row with the same id")
    if report.rejected:
        print(f"  {report.rejected:,} bad rows skipped: see {rejects}")
    if report.nulled:
        print(f"  {report.nulled:,} numbers in the payload were NaN or infinite and became null")
