"""`make congruence TESTS=checkout`: the client's own congruence tests against a cluster of ours.

They compare the client's in-process mode with a server on port 6333, so that port has to be free; collections have fixed
names. The cluster is a new one in a temporary folder. Only what tests.txt lists is run, over REST alone, with the installed
client (the path is the checkout's only after rest_only.py has imported it) or, with --own-client, with the checkout's, which
may be older. Nothing of the checkout is kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deployments import lifecycle
from deployments.config import load_settings

LIST = Path(__file__).with_name("tests.txt")
FOLDER = Path("tests/congruence_tests")
PORT = 6333
TIMEOUT_S = 3000


def listed() -> list[str]:
    """The tests, as pytest names them below a checkout."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split(" | ", 1) for line in lines]
    return [f"{FOLDER / file}::{test}" for file, test in pairs]


def main() -> int:
    """Run them; the number of shards is this cluster's default. Returns pytest's own status."""
    parser = argparse.ArgumentParser(prog="make congruence", description=__doc__.splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, help="a checkout of the client's repository")
    parser.add_argument("--shards", type=int, default=2, help="shards of the cluster (%(default)s)")
    parser.add_argument(
        "--own-client", action="store_true", help="test with the checkout's client, not the installed"
    )
    chosen = parser.parse_args()
    if chosen.checkout is None or not (chosen.checkout / FOLDER).is_dir():
        print(f"Skipped: give a checkout of qdrant-client that has {FOLDER}: make congruence TESTS=folder")
        return 0
    with tempfile.TemporaryDirectory(prefix="shoal-congruence-") as folder:
        flags = {"data_folder": Path(folder) / "data", "http.port": PORT, "cluster.shard_count": chosen.shards}
        settings = load_settings(flags=flags)
        try:
            lifecycle.up(settings)
            return _run_tests(chosen.checkout.absolute(), chosen.own_client)
        finally:
            lifecycle.down(settings)


def _run_tests(checkout: Path, own_client: bool) -> int:
    options = ["-q", "-p", "rest_only", "-p", "no:cacheprovider", "--no-header", "-rfE", "-W", "ignore"]
    command = [sys.executable, "-P", "-m", "pytest", *options, *listed()]
    paths = [str(Path(__file__).parent), *([str(checkout)] if own_client else [])]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, cwd=checkout, env=environment, timeout=TIMEOUT_S, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
