"""Options that several subcommands share, and what they stand for: settings, the cluster's URL, its keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from deployments.config import Settings
    from deployments.http_client import ClusterClient

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="The cluster's data folder.", show_default="./shoal-data"),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Where the cluster answers.",
        show_default="what the data folder says, else http://127.0.0.1:6333",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="SHOAL_API_KEY",
        metavar="KEY",
        help="Better in the environment: other users of the machine see command lines.",
        show_default="the data folder's own",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]


def read_settings(data: Path | None, config: Path | None = None, **flags: object) -> Settings:
    """Flags over environment over the file over defaults; `flags` as `http_port=` for `http.port`."""
    from deployments.config import load_settings

    dotted = {name.replace("_", ".", 1): value for name, value in flags.items()}
    return load_settings(config, os.environ, {"data_folder": data, **dotted})


def cluster_url(data: Path | None, url: str | None) -> str:
    """The URL given, else that of the cluster on the data folder, else the one that settings name."""
    from deployments.data_folder import read_run_info

    if url is not None:
        return url
    settings = read_settings(data)
    running = read_run_info(settings.data_folder.absolute())
    return running.url if running else f"http://{settings.http.host}:{settings.http.port}"


def cluster_client(
    data: Path | None, url: str | None, api_key: str | None, timeout_s: float | None = None
) -> ClusterClient:
    """A client of the cluster, with its address and key as `cluster_address` finds them. `timeout_s`: other than the
    client's.
    """
    from deployments.http_client import TIMEOUT_S, ClusterClient

    address, key = cluster_address(data, url, api_key)
    return ClusterClient(address, timeout_s or TIMEOUT_S, key)


def cluster_address(data: Path | None, url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """The cluster's URL, and the key given, else the data folder's own.

    The folder's own key goes to nobody but the folder's cluster: the one that `up` has started and that runs, or the
    one whose caller names both folder and URL, and so says that they belong together.
    """
    from deployments.data_folder import is_locked, read_run_info

    address = cluster_url(data, url)
    if api_key is None:
        folder = read_settings(data).data_folder.absolute()
        running = read_run_info(folder) if is_locked(folder) else None
        if (data is not None and url is not None) or (running is not None and running.url == address.rstrip("/")):
            api_key = own_key(folder)
    return address, api_key


def own_key(folder: Path) -> str | None:
    """The key to the HTTP API that the owner of a data folder has without making one; None where it can't be read."""
    from cluster.api_keys import local_key
    from deployments.data_folder import SECRET_FILE

    try:
        return local_key(bytes.fromhex((folder / SECRET_FILE).read_text()))
    except (OSError, ValueError):
        return None


def read_secret(data: Path | None) -> bytes:
    """What proves to the shards that a load may write. Raises NotFound or InvalidRequest if the folder does not tell."""
    from deployments.data_folder import SECRET_FILE

    folder = read_settings(data).data_folder.absolute()
    file = folder / SECRET_FILE
    try:
        return bytes.fromhex(file.read_text().strip())
    except FileNotFoundError:
        raise NotFound(
            f"{folder} is no data folder of a cluster ({SECRET_FILE} is missing); a load runs on the machine that has"
            " the cluster's folder: name it by --data"
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{file} can't be used: {error}") from None
