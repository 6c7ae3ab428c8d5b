"""What a person or a program sees of a command: results on standard output, everything else on standard error.

With `--json` standard output carries one JSON document and nothing besides. Expected errors become one sentence and
an exit code, never a traceback:

    0 fine    1 an error    2 wrong usage    3 the cluster does not run, or can't answer now    130 interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shards.errors import ShoalError, Unavailable

ERROR = 1
NOT_RUNNING = 3
INTERRUPTED = 130


def guarded(command: Callable[[], int]) -> int:
    """The exit code of `command`; what it raises on purpose is told on standard error."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except ShoalError as error:
        note(f"shoal: error: {error.message}")
        return NOT_RUNNING if isinstance(error, Unavailable) else ERROR
    except KeyboardInterrupt:
        note("shoal: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `shoal ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR


def note(text: str) -> None:
    """A line for a person."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: object) -> None:
    """The one document of `--json`."""
    import orjson

    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Numbers stand to the right. Without a terminal no line is cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.measure(table).maximum, 80))
    console.print(table)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


@contextmanager
def phases(what: str) -> Iterator[Callable[[str], None]]:
    """Tells which phase `what` is in: a spinner on a terminal, a line for each otherwise."""
    if not sys.stderr.isatty():
        yield lambda phase: note(f"{what}: {phase}")
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda phase: status.update(f"{what}: {phase}")


class LoadBar:
    """A LoadObserver (see loading/load.py): a progress bar, on a terminal only. A context manager."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows, {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            Remaining(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._what = what
        self._task = self._bar.add_task(what, total=None, rate=0.0)

    def __enter__(self) -> LoadBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, phase: str, rows_done: int, row_count: int) -> None:
        """See LoadObserver."""
        elapsed_s = self._bar.tasks[0].elapsed or 0.0
        rate = rows_done / elapsed_s if elapsed_s else 0.0
        what = self._what if phase == "loading" else "finishing"
        self._bar.update(self._task, description=what, completed=rows_done, total=row_count, rate=rate)

    def warn(self, text: str) -> None:
        """See LoadObserver."""
        note(f"shoal: warning: {text}")
