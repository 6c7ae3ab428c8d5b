"""`shoal keys`: API keys of a cluster, made, listed and revoked over its HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from deployments.commands.options import ApiKeyOption, DataOption, JsonOption, UrlOption, cluster_client
from deployments.terminal import note, print_json, print_table

app = typer.Typer(name="keys", no_args_is_help=True, rich_markup_mode="rich", help="API keys: who may do what.")
PATH = "/shoal/keys"
RoleName = Literal["read", "write", "admin"]


@app.command()
def create(
    role: Annotated[
        RoleName,
        typer.Argument(
            metavar="ROLE",
            help="read: search, retrieve, count; write: points as well; admin: collections as well, and, without"
            " --collection, keys and everything else.",
        ),
    ],
    *,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection", "-c", metavar="NAME", show_default="all", help="For this one only; repeat it for more."
        ),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", show_default="all", help="For points of this tenant only; repeat it for more."),
    ] = None,
    label: Annotated[str, typer.Option(metavar="TEXT", help="What the key is for, shown by `shoal keys list`.")] = "",
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and show it this once.

    With the first key the cluster is closed: from then on every request needs one.

    \b
    Examples:
      shoal keys create admin --label "our own"
      shoal keys create read --collection articles --label "search page"
      shoal keys create write --collection articles --tenant red --label "team red"
    """  # fmt: skip
    names: list[str | None] = [*collection] if collection else [None]
    tenants: list[str | None] = [*tenant] if tenant else [None]
    grants = [{"role": role, "collection": name, "tenant": one} for name in names for one in tenants]
    with cluster_client(data, url, api_key) as client:
        made = client.call("POST", PATH, {"grants": grants, "label": label})
    if as_json:
        print_json(made)
        return
    print(made["key"])
    note(f"key {made['id']}: {_in_words(made['grants'])}. It is shown only now: keep it safe.")


@app.command(name="list")
def show(
    *, data: DataOption = None, url: UrlOption = None, api_key: ApiKeyOption = None, as_json: JsonOption = False
) -> None:
    """List the keys: what each may do, never the key itself.

    \b
    Examples:
      shoal keys list
      shoal keys list --json
    """
    with cluster_client(data, url, api_key) as client:
        found = client.call("GET", PATH)["keys"]
    if as_json:
        print_json({"keys": found})
    elif not found:
        note("there are no keys: whoever reaches the cluster may do everything; `shoal keys create` closes it")
    else:
        rows = [
            (key["id"], key["label"], _in_words(key["grants"]), _day(key["created_s"]), _day(key["revoked_s"]))
            for key in found
        ]
        print_table(("id", "label", "may", "created", "revoked"), rows)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `shoal keys list` shows it.")],
    *,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key worthless, for good, within a second.

    Revoking the last key does not open the cluster; `shoal keys forget` does.

    \b
    Examples:
      shoal keys revoke 3f9a1c22b07e
    """
    with cluster_client(data, url, api_key) as client:
        client.call("POST", PATH + "/revoke", {"id": key_id})
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        print(f"key {key_id} is revoked")


@app.command()
def forget(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every key. There is no other way.")] = False,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget all keys: the cluster asks nobody for one any more.

    \b
    Examples:
      shoal keys forget --all
    """
    if not everything:
        raise typer.BadParameter("this opens the cluster to everybody; say so by --all")
    with cluster_client(data, url, api_key) as client:
        client.call("DELETE", PATH)
    if as_json:
        print_json({"forgotten": True})
    else:
        print("all keys are forgotten: whoever reaches the cluster may do everything")


def _in_words(grants: list[dict[str, Any]]) -> str:
    """`read a, write b (tenant t)`"""
    return ", ".join(
        f"{grant['role']} {grant['collection'] or 'everything'}"
        + (f" (tenant {grant['tenant']})" if grant["tenant"] else "")
        for grant in grants
    )


def _day(unix_s: int | None) -> str:
    return "" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
