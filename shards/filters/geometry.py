"""Points on the earth and the areas that filters name: boxes, circles, polygons. Degrees and metres.

Every comparison is strict: a point on an edge is outside. A box whose left edge is east of its right edge crosses the
180th meridian; a polygon never does. Boxes and polygons are plain arithmetic, so they take floats or float64 arrays and
say the same of both. A distance has sines in it, which numpy and `math` round differently in the last place: what uses
arrays for it has to look again at what is near the edge (`DISTANCE_ERROR`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius (2a + b) / 3 of GRS 80, as the IUGG recommends."""

DISTANCE_ERROR = 1e-7
"""Relative, and in metres: far above what two ways to compute a distance can differ, far below what anybody means."""

Ring = tuple[tuple[float, float], ...]
"""(latitude, longitude) of its corners; the last is the first again."""

Degrees = Any
"""float, or a float64 array."""


@dataclass(frozen=True, slots=True)
class GeoBox:
    """An area between two meridians and two parallels."""

    top: float
    left: float
    bottom: float
    right: float

    def contains(self, lat: Degrees, lon: Degrees) -> Any:
        """Whether the point is inside; a bool array of arrays."""
        if self.left > self.right:
            between = (lon > self.left) | (lon < self.right)
        else:
            between = (lon > self.left) & (lon < self.right)
        return between & (lat < self.top) & (lat > self.bottom)


@dataclass(frozen=True, slots=True)
class GeoCircle:
    """What is nearer than `radius_m` to its centre."""

    lat: float
    lon: float
    radius_m: float

    def contains(self, lat: float, lon: float) -> bool:
        return distance_m(self.lat, self.lon, lat, lon) < self.radius_m


@dataclass(frozen=True, slots=True)
class GeoPolygon:
    """What is inside one ring and outside others."""

    exterior: Ring
    holes: tuple[Ring, ...] = ()

    def contains(self, lat: Degrees, lon: Degrees) -> Any:
        """Whether the point is inside; a bool array of arrays."""
        inside, on_edge = _place_in_ring(self.exterior, lat, lon)
        contained = inside & (on_edge ^ True)
        for hole in self.holes:
            inside, on_edge = _place_in_ring(hole, lat, lon)
            contained = contained & ((inside | on_edge) ^ True)
        return contained


def coordinates(value: Any) -> tuple[float, float] | None:
    """(latitude, longitude) of a payload's `{"lat": ..., "lon": ...}`, or None where it is no such thing."""
    if type(value) is not dict:
        return None
    lat, lon = value.get("lat"), value.get("lon")
    return (lat, lon) if _is_finite(lat) and _is_finite(lon) else None


def distance_m(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Metres along a great circle (haversine formula)."""
    phi, other_phi = math.radians(lat), math.radians(other_lat)
    half_chord = (
        math.sin((other_phi - phi) / 2) ** 2
        + math.cos(phi) * math.cos(other_phi) * math.sin(math.radians(other_lon - lon) / 2) ** 2
    )
    return EARTH_RADIUS_M * 2 * math.asin(min(1.0, math.sqrt(half_chord)))


def distances_m(lat: float, lon: float, lats: npt.NDArray[np.float64], lons: npt.NDArray[np.float64]) -> Any:
    """The same to many points, float64; see DISTANCE_ERROR."""
    phi, phis = math.radians(lat), np.radians(lats)
    half_chord = (
        np.sin((phis - phi) / 2) ** 2 + math.cos(phi) * np.cos(phis) * np.sin(np.radians(lons - lon) / 2) ** 2
    )
    return EARTH_RADIUS_M * 2 * np.arcsin(np.minimum(1.0, np.sqrt(half_chord)))


def _is_finite(number: Any) -> TypeGuard[float]:
    return (type(number) is float or type(number) is int) and math.isfinite(number)


def _place_in_ring(ring: Ring, lat: Degrees, lon: Degrees) -> tuple[Any, Any]:
    """(inside, on an edge). Inside: a ray from the point crosses an odd number of edges."""
    inside: Any = lat != lat  # False, or an array of it
    on_edge: Any = inside
    for (lat_a, lon_a), (lat_b, lon_b) in pairwise(ring):
        rise, run = lat_b - lat_a, lon_b - lon_a
        turn = rise * (lon - lon_a) - run * (lat - lat_a)
        in_line = (lat - lat_a) * (lat - lat_b) <= 0
        in_line = in_line & ((lon - lon_a) * (lon - lon_b) <= 0)
        on_edge = on_edge | (in_line & (turn == 0))
        if run:
            spans = (lon_a > lon) != (lon_b > lon)
            inside = inside ^ (spans & ((turn > 0) if run > 0 else (turn < 0)))
    return inside, on_edge
