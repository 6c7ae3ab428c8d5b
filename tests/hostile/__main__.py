"""`python -m tests.hostile`: the hostile corpus at its figure; exit code 1 if something did not hold.

--cases N     so many requests (default 2000), half as many damaged Parquet files, and the requests
              again without a key;  --seed S  which (default 1)
--serve PORT  instead, a cluster of two shards to be fuzzed from outside, until interrupted; --keys: closed, and its key shown
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.api_keys import local_key
from deployments.http_client import ClusterClient
from tests.hostile.assault import assault, assault_as_stranger
from tests.hostile.corpus import COLLECTION, DIM
from tests.hostile.parquet import read_mutants
from tests.http_server import Entrance, serving_cluster
from tests.local_cluster import SECRET


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Bad input, nothing broken.")
    parser.add_argument("--cases", type=int, default=2000, help="how many requests (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which requests (%(default)s)")
    parser.add_argument("--serve", type=int, metavar="PORT", help="a cluster to be fuzzed, until interrupted")
    parser.add_argument("--keys", action="store_true", help="with --serve: closed, its key is shown")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if options.serve is not None:
            return _serve(Path(folder), options.serve, options.keys)
        outcome = assault(Path(folder), options.seed, options.cases)
    with tempfile.TemporaryDirectory() as folder:
        stranger = assault_as_stranger(Path(folder), options.seed, options.cases)
    for (family, status), count in sorted(outcome.statuses.items()):
        print(f"{family:12} {status} {count:6}")
    files = read_mutants(options.seed, options.cases // 2)
    outcome.complaints += [f"Parquet: {told}" for told in files.keys() - {"read", "refused"}]
    print(f"Parquet files: {files}")
    print(f"without a key: {stranger.sent} requests, {len(stranger.complaints)} complaints")
    outcome.complaints += stranger.complaints
    print(f"seed {outcome.seed}: {outcome.sent} requests, {len(outcome.complaints)} complaints")
    print(*outcome.complaints, sep="\n")
    return 1 if outcome.complaints else 0


def _serve(folder: Path, port: int, closed: bool) -> int:
    """A cluster on `port` with a collection to aim at, until SIGINT or SIGTERM."""
    key = local_key(SECRET)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    entrance = Entrance(own_key=key, is_short=True, port=port)
    with serving_cluster(folder, 2, entrance=entrance) as url, ClusterClient(url, api_key=key) as client:
        client.call("PUT", f"/collections/{COLLECTION}", {"vectors": {"size": DIM, "distance": "Cosine"}})
        points = [{"id": id_, "vector": [1.0, 0.5, 0.2, float(id_)], "payload": {"n": id_}} for id_ in range(100)]
        client.call("PUT", f"/collections/{COLLECTION}/points?wait=true", {"points": points})
        if closed:
            key = client.call("POST", "/shoal/keys", {"grants": [{"role": "admin"}]})["key"]
        print(f"{url} key {key}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
