"""The fenced blocks of Markdown files: which are programs, what they have to print, and whether they did.

An output block (`json`, `text`) is what each program before it prints, back to the output block or the heading before; a
program without one prints nothing. The blocks of one language are one program, with a mark printed behind each.
Numbers that differ from run to run (VARYING) are compared as being there, floats to four digits. Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

OUTPUTS = ("json", "text")
MARK = "-- the end of a block --"
PRINT_MARK = {
    "bash": f"printf '\\n%s\\n' '{MARK}'",
    "python": f"print('{MARK}', flush=True)",
    "js": f"console.log('{MARK}');",
    "javascript": f"console.log('{MARK}');",
}
"""How each language prints the mark."""
VARYING = frozenset({"time", "version", "operation_id", "lsn"})
SCORE_TOLERANCE = 5e-5
_FENCE = re.compile(r"^```(\w*)\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """`line` is that of its fence, from 1. `prints`: None for what is no program."""

    path: str
    line: int
    language: str
    text: str
    prints: Block | None = None

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def read_blocks(path: str, markdown: str) -> list[Block]:
    """All fenced blocks, outputs joined to their programs. Raises ValueError where a fence is left open."""
    found: list[Block] = []
    waiting: list[int] = []
    start, language, inside = 0, "", list[str]()
    for number, line in enumerate(markdown.splitlines(), start=1):
        if start:
            if line.rstrip() != "```":
                inside.append(line)
                continue
            block = Block(path, start, language, "\n".join(inside) + "\n")
            if language in OUTPUTS:
                for index in waiting:
                    found[index] = replace(found[index], prints=block)
                waiting = []
            elif language in PRINT_MARK:
                waiting.append(len(found))
            found.append(block)
            start, inside = 0, []
        elif fence := _FENCE.match(line):
            start, language = number, fence.group(1)
        elif line.startswith("#"):
            waiting = []
    if start:
        raise ValueError(f"{path}:{start}: this fence is never closed")
    return found


def program(blocks: Sequence[Block]) -> str:
    """One program of blocks of one language, each followed by the mark."""
    return "\n".join(f"{block.text}{PRINT_MARK[block.language]}" for block in blocks) + "\n"


def commands(block: Block, left_out: Iterable[str] = ()) -> str:
    """What is typed in a `console` block (behind `$`, continued by a backslash), but for what begins with one of `left_out`."""
    lines: list[str] = []
    is_typed = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            is_typed = not line[2:].startswith(tuple(left_out))
            if is_typed:
                lines.append(line[2:])
        elif is_typed and lines[-1].endswith("\\"):
            lines.append(line)
    return "\n".join(lines) + "\n"


def complaints(blocks: Sequence[Block], printed: str) -> list[str]:
    """Where what a program printed is not what is shown; [] where it is."""
    parts = [part.strip("\n") for part in printed.split(MARK + "\n")]
    if len(parts) != len(blocks) + 1:
        return [f"{blocks[len(parts) - 1].place}: the program ended in this block"]
    found = []
    for block, part in zip(blocks, parts, strict=False):
        shown = block.prints.text.strip("\n") if block.prints else ""
        is_json = block.prints is not None and block.prints.language == "json"
        if not (_same_json(shown, part) if is_json else shown == part):
            found.append(f"{block.place} has to print\n{shown}\nand printed\n{part}")
    return found


def _same_json(shown: str, printed: str) -> bool:
    try:
        return _alike(_documents(shown), _documents(printed))
    except ValueError:
        return False


def _documents(text: str) -> list[Any]:
    """JSON documents one behind the other. Raises ValueError."""
    found, decoder = [], json.JSONDecoder()
    text = text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


def _alike(shown: Any, printed: Any) -> bool:
    if isinstance(shown, dict) and isinstance(printed, dict):
        return shown.keys() == printed.keys() and all(
            isinstance(printed[key], int | float) if key in VARYING else _alike(value, printed[key])
            for key, value in shown.items()
        )
    if isinstance(shown, list) and isinstance(printed, list):
        return len(shown) == len(printed) and all(map(_alike, shown, printed))
    if isinstance(shown, float) and isinstance(printed, float):
        return math.isclose(shown, printed, abs_tol=SCORE_TOLERANCE)
    return type(shown) is type(printed) and bool(shown == printed)
