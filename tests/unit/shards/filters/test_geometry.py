"""Areas: what they say of arrays is what they say of each point, and distances are within their stated error."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from qdrant_client.local.geo import geo_distance

from shards.filters.geometry import DISTANCE_ERROR, GeoBox, GeoPolygon, coordinates, distance_m, distances_m

RANDOM = Random(5)
GRID = [(lat, lon) for lat in range(-90, 91, 15) for lon in range(-180, 181, 20)]
POINTS = [*GRID, *((RANDOM.uniform(-90, 90), RANDOM.uniform(-180, 180)) for _ in range(300))]
LATS = np.array([lat for lat, _ in POINTS], np.float64)
LONS = np.array([lon for _, lon in POINTS], np.float64)
STAR = ((0, 0), (60, 20), (0, 40), (45, -20), (45, 60), (0, 0))


@pytest.mark.parametrize(
    "area",
    [GeoBox(45, -40, -15, 60), GeoBox(45, 100, -15, -100), GeoBox(-15, 0, 45, 20), GeoPolygon(STAR), GeoPolygon(STAR, (STAR,)),
     GeoPolygon(((-90, -180), (-90, 180), (90, 180), (90, -180), (-90, -180)), (STAR,))],
)  # fmt: skip
def test_arrays_and_points_agree(area: GeoBox | GeoPolygon) -> None:
    assert area.contains(LATS, LONS).tolist() == [bool(area.contains(lat, lon)) for lat, lon in POINTS]


@pytest.mark.parametrize("center", [(0.0, 0.0), (52.52, 13.405), (90.0, 0.0), (-89.9, 179.9)])
def test_distances(center: tuple[float, float]) -> None:
    one_by_one = np.array([distance_m(*center, lat, lon) for lat, lon in POINTS])
    oracle = [geo_distance(center[1], center[0], lon, lat) for lat, lon in POINTS]
    assert np.abs(distances_m(*center, LATS, LONS) - one_by_one).max() < DISTANCE_ERROR
    assert one_by_one.tolist() == pytest.approx(oracle, rel=1e-12, abs=1e-6)


def test_points_opposite_each_other_have_a_distance() -> None:
    for lat, lon in GRID:
        assert distance_m(lat, lon, -lat, lon - 180) == pytest.approx(20_015_114.35, abs=0.1)


def test_an_edge_along_a_meridian_that_is_no_binary_fraction() -> None:
    triangle = GeoPolygon(((0, 13.405), (0, 180), (45.5, 13.405), (0, 13.405)))
    assert not triangle.contains(20, 13.405)
    assert triangle.contains(20, 13.406)
    assert not triangle.contains(20, 13.404)


def test_coordinates() -> None:
    assert coordinates({"lat": 1, "lon": 2.5, "name": "x"}) == (1, 2.5)
    for value in ({}, {"lat": 1}, {"lat": True, "lon": 1}, {"lat": None, "lon": 1}, [1, 2], "1,2", None):
        assert coordinates(value) is None
