"""Numbers as the text that Prometheus reads (its exposition format 0.0.4): written here, since it is twenty lines.

A metric is written with all of its samples together, as the format demands, and only if it has any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class Metric:
    """One metric. A counter's name ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    _lines: list[str] = field(default_factory=list)

    def add(self, value: float, labels: Mapping[str, object] | None = None) -> None:
        """One sample."""
        inner = ",".join(f'{key}="{str(text).translate(_ESCAPES)}"' for key, text in (labels or {}).items())
        self._lines.append(f"{self.name}{{{inner}}} {value!r}" if inner else f"{self.name} {value!r}")

    def lines(self) -> list[str]:
        """What stands in the text for it; nothing where there is no sample."""
        if not self._lines:
            return []
        return [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}", *self._lines]


def render(metrics: Iterable[Metric]) -> bytes:
    """The whole text."""
    lines = [line for metric in metrics for line in metric.lines()]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")
