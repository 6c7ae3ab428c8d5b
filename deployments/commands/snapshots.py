"""`shoal snapshot`: snapshots of collections, taken, fetched and recovered over the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deployments.commands.options import ApiKeyOption, DataOption, JsonOption, UrlOption, cluster_client
from deployments.terminal import note, print_json, print_table
from shards.errors import Conflict, Internal, InvalidRequest

app = typer.Typer(
    name="snapshot",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Snapshots: a collection as it is now, to come back to or to take elsewhere.",
)
WAIT_S = 3600.0
"""A large collection takes minutes; the server's own limit on a request is this."""
PART_SUFFIX = ".part"

CollectionArgument = Annotated[str, typer.Argument(metavar="COLLECTION")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `shoal snapshot list` shows it.")]


@app.command()
def create(
    collection: CollectionArgument,
    *,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a snapshot. Searches and writes go on meanwhile.

    \b
    Examples:
      shoal snapshot create articles
    """
    with cluster_client(data, url, api_key, WAIT_S) as client:
        taken = client.call("POST", _path(collection) + f"?timeout={WAIT_S:g}")
    if as_json:
        print_json(taken)
        return
    print(taken["name"])
    note(f"{taken['size']:,} bytes as one file, SHA-256 {taken['checksum']}")


@app.command(name="list")
def show(
    collection: CollectionArgument,
    *,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a collection's snapshots, oldest first; those of one that was deleted, too. Checksums are in --json.

    \b
    Examples:
      shoal snapshot list articles
    """
    with cluster_client(data, url, api_key) as client:
        found = client.call("GET", _path(collection))
    if as_json:
        print_json({"snapshots": found})
    elif not found:
        note(f"there is no snapshot of `{collection}`; `shoal snapshot create {collection}` takes one")
    else:
        rows = [(one["name"], one["creation_time"].replace("T", " ") + " UTC", one["size"]) for one in found]
        print_table(("name", "created", "bytes"), rows)


@app.command()
def download(
    collection: CollectionArgument,
    name: NameArgument,
    *,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to put it.", show_default="NAME.snapshot, here")
    ] = None,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a snapshot as one file, a plain tar, and compare its checksum.

    \b
    Examples:
      shoal snapshot download articles snapshot-2026-11-28-09-30-00-a1b2c3
      shoal snapshot download articles snapshot-2026-11-28-09-30-00-a1b2c3 --to articles.snapshot
    """
    from deployments import http_client

    file = to or Path(_checked(name) + ".snapshot")
    if file.exists():
        raise Conflict(f"{file} exists already; name another file by --to")
    part = file.with_name(file.name + PART_SUFFIX)
    with cluster_client(data, url, api_key, WAIT_S) as client:
        expected = _find(client.call("GET", _path(collection)), name)
        try:
            with open(part, "wb") as out:
                found = http_client.download(client, _path(collection, name), out)
            if expected is not None and found != expected:
                raise Internal(f"what came has the SHA-256 {found} instead of {expected}; fetch it again")
            part.rename(file)
        except OSError as error:
            raise InvalidRequest(f"{file} can't be written: {error.strerror or error}") from None
        finally:
            part.unlink(missing_ok=True)
    byte_count = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "bytes": byte_count, "sha256": found})
    else:
        print(f"{file}: {byte_count:,} bytes, SHA-256 {found}")


@app.command()
def delete(
    collection: CollectionArgument,
    name: NameArgument,
    *,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a snapshot. The collection stays as it is.

    \b
    Examples:
      shoal snapshot delete articles snapshot-2026-11-28-09-30-00-a1b2c3
    """
    with cluster_client(data, url, api_key, WAIT_S) as client:
        client.call("DELETE", _path(collection, name))
    if as_json:
        print_json({"deleted": name})
    else:
        print(f"snapshot {name} of `{collection}` is deleted")


@app.command()
def recover(
    collection: CollectionArgument,
    location: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|URL",
            help="A snapshot that the cluster keeps, of this collection or another; a file in the folder that the"
            " setting snapshots.folder names; an address that snapshots.url_prefixes allows.",
        ),
    ],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where the collection exists: the snapshot takes its place.")
    ] = False,
    checksum: Annotated[
        str | None, typer.Option(metavar="SHA-256", help="Recover it only if it has this checksum.")
    ] = None,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a collection of a snapshot: all of it, or nothing.

    \b
    Examples:
      shoal snapshot recover articles snapshot-2026-11-28-09-30-00-a1b2c3 --replace
      shoal snapshot recover copy snapshot-2026-11-28-09-30-00-a1b2c3
      shoal snapshot recover articles shoal-data/snapshots/articles.snapshot
    """  # fmt: skip
    body: dict[str, Any] = {"location": _location(location), "checksum": checksum}
    with cluster_client(data, url, api_key, WAIT_S) as client:
        if not replace and collection in client.collections():
            raise Conflict(f"`{collection}` exists; --replace lets the snapshot take its place, with all its points")
        client.call("PUT", _path(collection) + f"/recover?timeout={WAIT_S:g}", body)
        count = client.describe(collection)["points_count"]
    if as_json:
        print_json({"collection": collection, "points": count})
    else:
        print(f"`{collection}` is recovered: {count:,} points")


def _path(collection: str, name: str | None = None) -> str:
    from deployments.http_client import collection_path

    below = "" if name is None else f"/{quote(_checked(name), safe='')}"
    return collection_path(collection) + "/snapshots" + below


def _checked(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise InvalidRequest(f"{name!r} can't be the name of a snapshot")
    return name


def _find(found: list[dict[str, Any]], name: str) -> str | None:
    """The checksum of a snapshot in a list of them; None leaves it to the server to say that there is none."""
    return next((one["checksum"] for one in found if one["name"] == name), None)


def _location(given: str) -> str:
    """A path becomes an address, as the API wants it; a name and an address stay."""
    if "://" in given or "/" not in given:
        return given
    return Path(given).absolute().as_uri()
