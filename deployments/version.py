"""Which Shoal this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    try:
        return version("shoal-cluster")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.0.0"


SHOAL_VERSION = _installed_version()
