"""`shoal up`, `down` and `status`: a cluster on this machine."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.options import DataOption, JsonOption, own_key, read_settings
from deployments.terminal import NOT_RUNNING, note, phases, print_json, print_table
from shards.errors import ShoalError, Unauthenticated

if TYPE_CHECKING:
    from deployments.http_client import ClusterClient
    from deployments.lifecycle import Status

MIB = 1024 * 1024
ANSWER_S = 10.0


def up(
    *,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(help="The HTTP port.", show_default="6333")] = None,
    host: Annotated[
        str | None,
        typer.Option(help="The address to answer on; 0.0.0.0 opens it to the network.", show_default="127.0.0.1"),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            help="Processes that hold the data; chosen once, for a new folder.",
            show_default="what the folder has, 2 for a new one",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings, in YAML: see configs/default.yaml.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a cluster on this machine, in the background.

    Makes the data folder if it is missing, else brings back all that is in it. Returns when the cluster answers.

    \b
    Examples:
      shoal up
      shoal up --data ./other --port 7000 --shards 4
    """
    from deployments import lifecycle
    from deployments.ports import is_loopback

    settings = read_settings(data, config, http_port=port, http_host=host, cluster_shard_count=shards)
    started = perf_counter()
    with phases("starting the cluster") as on_phase:
        info = lifecycle.up(settings, on_phase=on_phase)
    elapsed_s = perf_counter() - started
    folder = settings.data_folder.absolute()
    asks_for_keys = _asks_for_keys(info.url)
    if as_json:
        print_json({
            "url": info.url,
            "pid": info.pid,
            "data_folder": str(folder),
            "log_file": str(info.log_file),
            "seconds": round(elapsed_s, 3),
            "asks_for_keys": asks_for_keys,
        })  # fmt: skip
        return
    print(f"Shoal answers at {info.url} (after {elapsed_s:.1f} s)")
    print(f"  data  {folder}")
    print(f"  log   {info.log_file}")
    flag = "" if data is None else f" --data {data}"
    print(f"`shoal status{flag}` shows it, `shoal load --help` fills it, `shoal down{flag}` ends it.")
    if not asks_for_keys and not is_loopback(settings.http.host):
        note(f"shoal: warning: whoever reaches {info.url} may do everything: `shoal keys create{flag}` closes it")


def _asks_for_keys(url: str) -> bool:
    """Whether a stranger is asked for a key, found out as one. False, which warns, where nothing is found out."""
    from deployments.http_client import ClusterClient

    try:
        with ClusterClient(url, ANSWER_S) as client:
            client.collections()
    except ShoalError as error:
        return isinstance(error, Unauthenticated)
    return False


def down(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """End the cluster of a data folder.

    Its data stays, and the next `shoal up` brings it back. It is no error if none runs.

    \b
    Examples:
      shoal down
      shoal down --data ./other
    """
    from deployments import lifecycle

    settings = read_settings(data)
    started = perf_counter()
    ended = lifecycle.down(settings)
    elapsed_s = perf_counter() - started
    folder = settings.data_folder.absolute()
    if as_json:
        url = None if ended is None else ended.url
        print_json({"was_running": ended is not None, "url": url, "seconds": round(elapsed_s, 3)})
    elif ended is None:
        print(f"no cluster runs on {folder}")
    else:
        print(f"ended the cluster at {ended.url} (after {elapsed_s:.1f} s); its data stays in {folder}")


def status(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show whether a cluster runs, whether it can answer, and its shards.

    The exit code is 0 if every shard answers, else 3.

    \b
    Examples:
      shoal status
      shoal status --json
    """
    from deployments import lifecycle

    settings = read_settings(data)
    found = lifecycle.status(settings)
    shards: list[dict[str, Any]] = []
    answer = found.answer
    if found.run is not None:
        shards, problem = _shards(found.run.url, settings.data_folder.absolute())
        answer = problem or answer
    if as_json:
        _print_status_json(found, answer, shards)
    elif found.run is None:
        note(f"shoal: {answer}; start one with `shoal up`")
    else:
        _print_status(found, answer, shards, settings.data_folder.absolute())
    if not found.ready:
        raise typer.Exit(NOT_RUNNING)


def _shards(url: str, folder: Path) -> tuple[list[dict[str, Any]], str | None]:
    """What the cluster says of its shards, their memory included; why it says nothing."""
    from deployments.http_client import ClusterClient

    try:
        with ClusterClient(url, ANSWER_S, own_key(folder)) as client:
            shards = client.cluster()["shards"]
            memory = _memory_by_shard(client, shards)
    except ShoalError as error:
        return [], error.message
    return [{**shard, "memory": memory.get(shard["id"])} for shard in shards], None


def _memory_by_shard(client: ClusterClient, shards: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """How each shard's memory stands. A shard says so with any of its collections; without one it holds nothing."""
    found: dict[int, dict[str, Any]] = {}
    for shard in shards:
        if shard["id"] not in found and shard["collections"]:
            for told in client.shards_of(shard["collections"][0]):
                if told.get("memory"):
                    found[told["id"]] = told["memory"]["shard"]
    return found


def _memory_in_words(memory: dict[str, Any] | None) -> str:
    """Used and limit, and the level where it is not normal."""
    if memory is None:
        return "-"
    used = f"{memory['used_bytes'] / MIB:,.0f} MiB"
    if memory["limit_bytes"] is None:
        return used
    level = "" if memory["level"] == "normal" else f" ({memory['level']})"
    return f"{used} of {memory['limit_bytes'] / MIB:,.0f} MiB{level}"


def _problem_in_words(shard: dict[str, Any]) -> str:
    """What is wrong with a shard, as the cluster sees it, or as the router does that answered."""
    breaker = shard.get("breaker") or {}
    if shard["problem"] is None and breaker.get("state", "closed") != "closed":
        return f"breaker {breaker['state']}: {breaker['reason']}"
    return shard["problem"] or "none"


def _print_status_json(found: Status, answer: str, shards: list[dict[str, Any]]) -> None:
    run = found.run
    print_json({
        "running": run is not None,
        "ready": found.ready,
        "answer": answer,
        "url": run and run.url,
        "pid": run and run.pid,
        "shards": shards,
    })  # fmt: skip


def _print_status(found: Status, answer: str, shards: list[dict[str, Any]], folder: Path) -> None:
    assert found.run is not None
    print(f"Shoal at {found.run.url}: {'ready' if found.ready else 'NOT ready'} ({answer})")
    print(f"  pid   {found.run.pid}")
    print(f"  data  {folder}")
    print(f"  log   {found.run.log_file}")
    if shards:
        rows = [
            (
                *(shard["id"], shard["address"] or "-", ", ".join(shard["collections"]) or "-"),
                *(_memory_in_words(shard["memory"]), _problem_in_words(shard)),
            )
            for shard in shards
        ]
        print_table(("shard", "address", "collections", "memory", "problem"), rows)
