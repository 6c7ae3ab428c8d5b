"""`shoal top`: what a cluster does, now and again."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.commands.options import ApiKeyOption, DataOption, UrlOption, cluster_address
from shards.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deployments.top_source import ObservingClient, Routers

INTERVAL_S = 2.0


def top(
    *,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, metavar="SECONDS", help="How often the picture is drawn anew.")
    ] = INTERVAL_S,
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture, of the time since the routers started, and end.")
    ] = False,
    data: DataOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
) -> None:
    """Watch a cluster: shards, memory, rates, latencies, hit rates.

    Ctrl-C ends it. It asks /metrics, so a key needs the role `read` over the whole cluster.

    \b
    Examples:
      shoal top
      shoal top --interval 1 --url http://10.0.0.7:6333
      shoal top --once
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from deployments.top_source import ObservingClient, Routers

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 120))
    address, key = cluster_address(data, url, api_key)
    with ObservingClient(address, api_key=key) as client:
        routers = Routers(client)
        first = _frame(client, routers, "since the routers started")
        if once:
            console.print(first)
            return
        over = f"over the last {interval:g} s"
        with (
            suppress(KeyboardInterrupt),
            Live(first, console=console, screen=console.is_terminal, auto_refresh=False) as live,
        ):
            live.refresh()
            while True:
                time.sleep(interval)
                try:
                    picture = _frame(client, routers, over)
                except Unavailable as error:  # it may come back
                    picture = Text(error.message, "bold red")
                live.update(picture, refresh=True)


def _frame(client: ObservingClient, routers: Routers, over: str) -> RenderableType:
    from deployments.top_reading import traffic_of
    from deployments.top_view import Frame, render

    intervals, newest = routers.ask()
    return render(Frame(client.url, newest, traffic_of(intervals), routers.count, client.readiness(), over))
