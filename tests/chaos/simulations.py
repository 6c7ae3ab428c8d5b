"""Rows 2, 3, 4, 5 and 7 are simulations with programs of their own; here they are called at their figures.

A program that is not there yet is skipped by name. Its exit code is the verdict, its output is shown as it comes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec

from tests.chaos.report import Report

PROGRAMS = ("tests.simulation.run", "tests.simulation.damage")


@dataclass(frozen=True)
class Simulation:
    """One row: its program, the option that says how much, and how much that is at the figure and in short."""

    row: int
    what: str
    arguments: tuple[str, ...]
    amount_option: str
    figure: int
    quick: int


SIMULATIONS = {
    simulation.row: simulation
    for simulation in (
        Simulation(2, "crash at every named point", (PROGRAMS[0], "--row", "2"), "--seeds", 50, 2),
        Simulation(3, "power loss on a simulated disk", (PROGRAMS[0], "--row", "3"), "--seeds", 2_000, 40),
        Simulation(4, "damaged log", (PROGRAMS[0], "--row", "4"), "--seeds", 20_000, 300),
        Simulation(5, "damaged segment, graph, manifest", (PROGRAMS[1],), "--mutants", 10_000, 150),
        Simulation(7, "EIO on write or fsync", (PROGRAMS[0], "--row", "7"), "--seeds", 500, 20),
    )
}


def run(simulation: Simulation, amount: int) -> Report:
    """Run one as a process of its own."""
    report = Report(simulation.row, simulation.what, seed=0)
    module = simulation.arguments[0]
    if not _exists(module):
        report.skipped = f"there is no {module} yet"
        return report
    began = time.monotonic()
    command = [sys.executable, "-m", *simulation.arguments, simulation.amount_option, str(amount)]
    code = subprocess.run(command, check=False).returncode
    report.faults = amount
    report.figures = {"program": f"{' '.join(command[1:])}: its own report stands above"}
    report.duration_s = time.monotonic() - began
    report.require(code == 0, f"it ended with exit code {code}")
    return report


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False
