"""The index of points on the earth: coordinates ordered by latitude.

An area's latitudes pick a run of rows, and those are compared one array operation at a time. Rows whose coordinates are
outside of -90 ... 90 and -180 ... 180 degrees (`odd`) are not in it: whether they match is read from the payload.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.filters.answers import Bounds, Estimate, about
from shards.filters.conditions import ElementTest, InArea
from shards.filters.geometry import (
    DISTANCE_ERROR,
    EARTH_RADIUS_M,
    GeoBox,
    GeoCircle,
    GeoPolygon,
    coordinates,
    distances_m,
)
from shards.filters.rowsets import Bits, RowNumbers, bits_of_rows, count_bits, rowset_of, rowset_of_bits
from shards.filters.sections import Arrays, check_ascending, check_bits, check_rows, check_same_length, take_sections

_SECTIONS = {"lats": np.float64, "lons": np.float64, "rows": np.uint32, "odd": np.uint8}
_Degrees = npt.NDArray[np.float64]
Area = GeoBox | GeoCircle | GeoPolygon


class Places:
    """The index of a field of `{"lat", "lon"}`. lats (ascending), lons: float64; rows: uint32; odd: bits."""

    def __init__(self, row_count: int, lats: _Degrees, lons: _Degrees, rows: RowNumbers, odd: Bits) -> None:
        self._row_count = row_count
        self._lats = lats
        self._lons = lons
        self._rows = rows
        self._odd = odd

    def bounds(self, test: ElementTest) -> Bounds | None:
        """See FieldContent. Areas; near the edge of a circle rows are only possible."""
        if not isinstance(test, InArea):
            return None
        run = self._run(test.area)
        lats, lons, rows = self._lats[run], self._lons[run], self._rows[run]
        if isinstance(test.area, GeoCircle):
            distances = distances_m(test.area.lat, test.area.lon, lats, lons)
            error = DISTANCE_ERROR * (1 + test.area.radius_m)
            surely, possibly = distances < test.area.radius_m - error, distances < test.area.radius_m + error
        else:
            surely = possibly = test.area.contains(lats, lons)
        sure = rowset_of(rows[surely], self._row_count)
        return Bounds(sure, sure | rowset_of(rows[possibly & ~surely], self._row_count) | rowset_of_bits(self._odd))

    def estimate(self, test: ElementTest) -> Estimate | None:
        """As if the points between two parallels were spread evenly."""
        if not isinstance(test, InArea):
            return None
        run = self._run(test.area)
        count = run.stop - run.start
        return about(0, count * _share_of_parallel(test.area), count + count_bits(self._odd), self._row_count)

    def arrays(self) -> Arrays:
        return {"lats": self._lats, "lons": self._lons, "rows": self._rows, "odd": self._odd}

    def _run(self, area: Area) -> slice:
        low, high = _latitudes(area)
        start = int(np.searchsorted(self._lats, low, "left"))
        return slice(start, max(start, int(np.searchsorted(self._lats, high, "right"))))


def _latitudes(area: Area) -> tuple[float, float]:
    """The least and the greatest latitude of the area, or a little more."""
    if isinstance(area, GeoBox):
        return area.bottom, area.top
    if isinstance(area, GeoPolygon):
        lats = [lat for lat, _ in area.exterior]
        return min(lats), max(lats)
    reach = math.degrees(area.radius_m / EARTH_RADIUS_M) * (1 + DISTANCE_ERROR) + DISTANCE_ERROR
    return area.lat - reach, area.lat + reach


def _share_of_parallel(area: Area) -> float:
    """Which part of a parallel the area covers, about."""
    if isinstance(area, GeoBox):
        return ((area.right - area.left) % 360) / 360
    if isinstance(area, GeoPolygon):
        lons = [lon for _, lon in area.exterior]
        return (max(lons) - min(lons)) / 360
    half = math.degrees(area.radius_m / EARTH_RADIUS_M) / max(0.01, math.cos(math.radians(area.lat)))
    return min(1.0, half / 180)


def read_places(arrays: Arrays, row_count: int) -> Places:
    """The index that `arrays` holds. Raises Corrupt."""
    lats, lons, rows, odd = take_sections(arrays, _SECTIONS)
    check_rows(rows, row_count)
    check_same_length(lats, rows)
    check_same_length(lons, rows)
    check_ascending(lats, "latitudes")
    check_bits(odd, row_count)
    return Places(row_count, lats, lons, rows, odd)


class PlacesBuilder:
    """Takes the elements of row after row."""

    def __init__(self) -> None:
        self._lats = array("d")
        self._lons = array("d")
        self._rows = array("I")
        self._odd = array("I")

    def add(self, row: int, elements: list[Any]) -> None:
        """`row` is not below those before it."""
        for element in elements:
            place = coordinates(element)
            if place is None:
                continue
            lat, lon = place
            if abs(lat) > 90 or abs(lon) > 180:
                self._odd.append(row)
                continue
            self._lats.append(lat)
            self._lons.append(lon)
            self._rows.append(row)

    def finish(self, row_count: int) -> Places:
        """The index of the rows so far, which shares nothing with the builder."""
        lats = np.array(self._lats, np.float64)
        order = np.argsort(lats, kind="stable")
        return Places(
            row_count,
            lats[order],
            np.array(self._lons, np.float64)[order],
            np.array(self._rows, np.uint32)[order],
            bits_of_rows(self._odd, row_count),
        )
