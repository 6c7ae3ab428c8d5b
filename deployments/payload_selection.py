"""Which part of a payload an answer carries: `with_payload` as a bool, a list of paths, or include / exclude.

A path is `a`, `a.b`, `a[].b` (every element of an array) or quoted, `"a.b"`. Paths become one tree of names, which is
laid over the payload. As in the API's other implementations, `a.b` does not reach into an array without `[]`, and an
index such as `a[0]` matches nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from shards.errors import InvalidRequest

Step = str | int | None
"""A field's name, an index, or None for every element of an array."""
Tree = dict[Step, Any]
"""Step -> what is chosen below it; an empty tree chooses all."""

_STEP = re.compile(r'(?:"([^"]+)"|([^."\[\]]+))((?:\[\d*\])*)(?:\.|$)')
_BRACKETS = re.compile(r"\[(\d*)\]")


@dataclass(frozen=True, slots=True)
class PayloadSelection:
    """`wanted`: payloads are part of the answer; `whole`: as they are. Else `tree` says what stays, or what goes."""

    wanted: bool
    whole: bool = True
    excludes: bool = False
    tree: Tree | None = None

    def apply(self, payload: bytes) -> Any:
        """The chosen part of a payload's JSON."""
        tree = self.tree or {}
        if not tree:
            return {} if not self.excludes else orjson.Fragment(payload)
        value = orjson.loads(payload)
        return _without(value, tree) if self.excludes else _only(value, tree)


NO_PAYLOAD = PayloadSelection(wanted=False)
WHOLE_PAYLOAD = PayloadSelection(wanted=True)


def parse_selection(value: object, default: bool) -> PayloadSelection:
    """The selection that `with_payload` asks for. Raises InvalidRequest for anything that is none."""
    if value is None:
        value = default
    if value is False or value is True:
        return WHOLE_PAYLOAD if value else NO_PAYLOAD
    if isinstance(value, list):
        return PayloadSelection(wanted=True, whole=False, tree=_tree(value))
    if isinstance(value, dict) and len(value) == 1:
        ((kind, paths),) = value.items()
        if kind in ("include", "exclude") and isinstance(paths, list):
            return PayloadSelection(wanted=True, whole=False, excludes=kind == "exclude", tree=_tree(paths))
    raise InvalidRequest(
        "Format error in JSON body: with_payload is neither a bool, a list of paths, nor "
        '{"include": [paths]} or {"exclude": [paths]}'
    )


def _tree(paths: list[object]) -> Tree:
    tree: Tree = {}
    chosen_whole: list[Tree] = []
    for path in paths:
        if not isinstance(path, str):
            raise InvalidRequest(f"Format error in JSON body: with_payload: a path is no text: {path!r:.40}")
        branch = tree
        for step in _steps(path):
            branch = branch.setdefault(step, {})
        chosen_whole.append(branch)
    # `a` beside `a.b` chooses all of `a`, whichever came first.
    for branch in chosen_whole:
        branch.clear()
    return tree


def _steps(path: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while at < len(path) or not steps:
        step = _STEP.match(path, at)
        if step is None:
            raise InvalidRequest(f"with_payload: `{path[:80]}` is not a path such as a, a.b or a[].b")
        quoted, plain, brackets = step.groups()
        steps.append(quoted or plain)
        steps += [int(index) if index else None for index in _BRACKETS.findall(brackets)]
        at = step.end()
    return steps


def _only(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, dict):
        return {name: _only(item, tree[name]) for name, item in value.items() if name in tree}
    if isinstance(value, list):
        return [_only(element, tree[None]) for element in value] if None in tree else []
    return value


def _without(value: Any, tree: Tree) -> Any:
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if tree.get(name) != {}}
        return {name: _without(item, tree[name]) if name in tree else item for name, item in kept.items()}
    if isinstance(value, list) and None in tree:
        return [_without(element, tree[None]) for element in value] if tree[None] else []
    return value
