"""Shoal's tests. A package, so that another distribution's `tests` can't take its name."""
