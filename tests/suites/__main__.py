"""`make suites`: the tests that Haystack and LangChain publish for vector stores, and some of LlamaIndex and mem0, twice.

Each is run through the framework's own store, against the client's in-process mode and against a cluster of ours over REST.
Whether a test passes has to be the same in both, but for what known.py lists: what both fail is the store's doing, not the
server's.

The frameworks are many packages, so they get an environment of their own, from requirements.txt, the first time and when that
file changes. Suites may talk to loopback alone. The cluster is a new one in a temporary folder, on a free port.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from deployments import lifecycle
from deployments.config import load_settings
from deployments.ports import free_port_block
from tests.suites.known import DIFFERENCES
from tests.suites.outcomes import Pair, Run, compare, read_run, table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"
MARK = ".requirements-sha256"
INSTALL_TIMEOUT_S = 1200
RUN_TIMEOUT_S = 1200
NAMES = ("memory", "shoal")
FAILED_TESTS = 1
"""pytest's exit code where tests failed; beyond it, it could not run them."""


def main() -> int:
    """Run and compare. Returns 0 if every outcome is as it should be."""
    parser = argparse.ArgumentParser(prog="make suites", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--environment", type=Path, default=ROOT / ".venv-suites", help="where the packages are (%(default)s)"
    )
    parser.add_argument("--shards", type=int, default=2, help="shards of the cluster (%(default)s)")
    parser.add_argument("-k", dest="chosen", default="", help="only these tests, as pytest has it")
    chosen = parser.parse_args()
    python = _ready_environment(chosen.environment.absolute())
    with tempfile.TemporaryDirectory(prefix="shoal-suites-") as folder:
        suites = Suites(python, Path(folder), chosen.chosen)
        memory = suites.run(NAMES[0])
        shoal = _run_on_cluster(suites, Path(folder) / "data", chosen.shards)
    pairs = compare(memory, shoal, DIFFERENCES)
    print(table(pairs, NAMES))
    return _verdict(pairs)


class Suites:
    """The tests, in their environment; `folder` is theirs to write into."""

    def __init__(self, python: Path, folder: Path, chosen: str) -> None:
        self.python, self.folder, self.chosen = python, folder, chosen

    def run(self, name: str, url: str = "") -> Run:
        """All of them, against the server at `url`, or else in process. Raises RuntimeError where pytest can't run them."""
        report = self.folder / f"{name}.xml"
        print(f"Running the suites: {name} ...", flush=True)
        done = subprocess.run(
            self._command(report),
            cwd=ROOT,
            env=self._environment(url),
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        if done.returncode not in (0, FAILED_TESTS):
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return read_run(report)

    def _command(self, report: Path) -> list[str]:
        # Neither the configuration nor the conftest.py of Shoal's own tests: their packages are not here.
        apart = ["-c", os.devnull, "--rootdir", str(HERE), "--confcutdir", str(HERE), "-p", "no:cacheprovider"]
        loopback = ["--disable-socket", "--allow-hosts=127.0.0.1"]
        options = [
            "-q",
            "-o",
            "asyncio_mode=auto",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            "--junitxml",
            str(report),
            "-k",
            self.chosen,
        ]
        return [
            str(self.python),
            "-m",
            "pytest",
            *apart,
            *loopback,
            *options,
            *map(str, sorted(HERE.glob("*_suite.py"))),
        ]

    def _environment(self, url: str) -> dict[str, str]:
        quiet = {"HAYSTACK_TELEMETRY_ENABLED": "false", "LANGSMITH_TRACING": "false", "MEM0_TELEMETRY": "false"}
        home = str(self.folder / "home")
        ours = {"SUITES_URL": url, "HOME": home, "MEM0_DIR": f"{home}/mem0", "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **quiet, **ours}


def _ready_environment(folder: Path) -> Path:
    """Its interpreter, once requirements.txt is installed in it."""
    python = folder / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    mark = folder / MARK
    if not mark.exists() or mark.read_text() != wanted:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
            raise RuntimeError(f"{folder} is no environment and not empty: name another folder")
        print(f"Installing the frameworks into {folder} (minutes, the first time) ...", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--require-hashes", "-r", str(REQUIREMENTS)], timeout=INSTALL_TIMEOUT_S, check=True)
        mark.write_text(wanted)
    return python


def _run_on_cluster(suites: Suites, data_folder: Path, shards: int) -> Run:
    (port,) = free_port_block(1)
    settings = load_settings(flags={"data_folder": data_folder, "http.port": port, "cluster.shard_count": shards})
    try:
        return suites.run(NAMES[1], lifecycle.up(settings).url)
    finally:
        lifecycle.down(settings)


def _verdict(pairs: Sequence[Pair]) -> int:
    wrong = sum(not pair.is_right for pair in pairs)
    known = sum(bool(pair.known) for pair in pairs)
    print(f"\n{len(pairs)} tests, {wrong} with another outcome than expected ({known} are known to differ).")
    return 1 if wrong or not pairs else 0


if __name__ == "__main__":
    sys.exit(main())
