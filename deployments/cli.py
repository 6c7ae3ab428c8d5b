"""The `shoal` command: its subcommands (deployments/commands), and the one place where it ends.

Every expected error becomes one sentence on standard error and an exit code (deployments/terminal.py). `shoal --help`
has to answer at once, so nothing heavy is imported before a subcommand needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from deployments.commands import keys, load, running, search, snapshots, top, verify
from deployments.terminal import guarded

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 an error, 2 wrong usage, 3 no cluster runs or can answer now, 130 interrupted.",
)
app.command()(running.up)
app.command()(running.down)
app.command()(running.status)
app.command()(top.top)
app.command()(verify.verify)
app.command()(load.load)
app.command()(search.search)
app.command()(search.collections)
app.add_typer(snapshots.app)
app.add_typer(keys.app)


@app.callback()
def shoal(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Show the version and exit.", callback=lambda on: _version(on)),
    ] = False,
) -> None:
    """Shoal, a vector retrieval cluster on Ray.

    \b
    A first cluster:
      shoal up
      shoal load points.parquet --collection points --create
      shoal search points --like 1
      shoal down
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: this process's): the exit code."""
    return guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=None if arguments is None else list(arguments), prog_name="shoal")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        from deployments.version import SHOAL_VERSION

        print(f"shoal {SHOAL_VERSION}")
        raise typer.Exit


if __name__ == "__main__":
    sys.exit(main())
