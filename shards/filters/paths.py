"""JSON paths: how a condition names the values of a payload that it is about.

    path = step ("." step)*        step = (name | "quoted name") ("[]" | "[number]")*

A name is letters, digits, `_` and `-`; quoted it is anything without a quote. `[]` goes to every element of an array,
`[3]` to one. A step that doesn't fit the value it meets (a name of an array, a number of an object) selects nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

INDEX_MAX = 2**64 - 1

Step = str | int | None
"""A name, a place in an array, or None for every place."""

_STEP = re.compile(r'(?:"([^"]*)"|([\w-]+))((?:\[[0-9]*\])*)')
_BRACKET = re.compile(r"\[([0-9]*)\]")
_PLAIN_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed path. Two spellings of one path are equal."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """The path in its shortest spelling; `parse_path` gives it back."""
        text = ""
        for step in self.steps:
            if isinstance(step, str):
                name = step if _PLAIN_NAME.fullmatch(step) else f'"{step}"'
                text += f".{name}" if text else name
            else:
                text += "[]" if step is None else f"[{step}]"
        return text

    def within(self, array: JsonPath) -> JsonPath:
        """This path of an element of `array`, as a path of the whole payload."""
        return JsonPath((*array.steps, None, *self.steps))


def parse_path(text: str) -> JsonPath:
    """The path that `text` spells. Raises ValueError, saying where it stops to be one."""
    steps: list[Step] = []
    at = 0
    while True:
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"{text!r} is no JSON path: a name is missing at character {at + 1}")
        quoted, plain, brackets = match.groups()
        steps.append(plain if quoted is None else quoted)
        steps += [_place(text, digits) for digits in _BRACKET.findall(brackets)]
        at = match.end()
        if at == len(text):
            return JsonPath(tuple(steps))
        if text[at] != ".":
            raise ValueError(f"{text!r} is no JSON path: {text[at]!r} at character {at + 1} can't stand there")
        at += 1


def select(document: Any, path: JsonPath) -> list[Any]:
    """The values that the path leads to, arrays as they are. Empty where there is none."""
    values = [document]
    for step in path.steps:
        if isinstance(step, str):
            values = [value[step] for value in values if type(value) is dict and step in value]
        elif step is None:
            values = [element for value in values if type(value) is list for element in value]
        else:
            values = [value[step] for value in values if type(value) is list and step < len(value)]
    return values


def unwrap(values: list[Any]) -> list[Any]:
    """The values with arrays replaced by their elements, one level deep: what a condition looks at one by one."""
    flat: list[Any] = []
    for value in values:
        if type(value) is list:
            flat += value
        else:
            flat.append(value)
    return flat


def _place(text: str, digits: str) -> int | None:
    if not digits:
        return None
    if len(digits) > 20 or int(digits) > INDEX_MAX:
        raise ValueError(f"{text!r} is no JSON path: [{digits[:24]}] is above {INDEX_MAX}")
    return int(digits)
