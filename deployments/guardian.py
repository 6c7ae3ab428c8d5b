"""The guardian of a local cluster: one small process that holds the data folder's lock and answers for all the others.

Run by `up` as `python -m deployments.guardian LOCK_FD`, in a session of its own. It starts the head process, adopts every
orphan of the cluster, and waits: for SIGTERM (`down`), or for the head to end (something died). Either way it ends
every process of the cluster before it ends itself, and only then does the kernel release the lock: who gets the
lock knows that nothing of the cluster before is running.

It imports neither Ray nor anything heavy: nothing that goes wrong there can take it along. If it is killed itself, the
head dies with it, and Ray with the head.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from deployments.data_folder import RunInfo, forget_run, write_run_info
from deployments.launch import RAY_FOLDER, Order
from deployments.processes import POLL_S, adopt_orphans, descendants, end_all, own_id, reap_children

CLEAN_S = 6.5
"""How long the head may take to close the shards."""
FAILURE_FOLDER = "ray-of-last-failure"
"""Beside the cluster's log: one copy of Ray's logs, of the last time that it ended by itself."""
KILL_S = 2.0
"""How long the kernel may take to end what is left. With CLEAN_S less than the 10 s of `down`."""


class Stopped(Exception):
    """SIGTERM or SIGINT: the cluster is to end."""


def main(lock: int) -> int:
    """`lock` is the inherited open file; it is kept to the last."""
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGTERM, _raise_stopped)
    signal.signal(signal.SIGINT, _raise_stopped)
    adopt_orphans()
    order = Order.from_stdin()
    folder = Path(order.data_folder)
    write_run_info(folder, RunInfo(own_id(), order.url, Path(order.run_folder), Path(order.log_file)))
    head = None
    try:
        head = _start_head(order)
        code = _wait_for(head)
        _ignore_signals()
        _log(f"the head process ended by itself (exit code {code}); ending the cluster")
        _keep_logs(order)
    except Stopped:
        _ignore_signals()
        code = 0
        if head is not None:
            _stop_head(head)
    left = end_all(lambda: descendants(os.getpid()), KILL_S)
    if left:
        _log(f"these processes could not be ended: {left}")
        return 1
    forget_run(folder)
    return code


def _start_head(order: Order) -> int:
    head = subprocess.Popen(
        [sys.executable, "-m", "deployments.local_ray", str(os.getpid())],
        stdin=subprocess.PIPE,
        env=dict(order.environment),
    )
    # Only the head may still write to `up`, so that `up` sees the end when the head ends.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    assert head.stdin is not None
    head.stdin.write(order.to_json())
    head.stdin.close()
    return head.pid


def _wait_for(head: int) -> int:
    """The head's exit code, when it ends. Adopted orphans are reaped meanwhile."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == head:
            return os.waitstatus_to_exitcode(status)


def _stop_head(head: int) -> None:
    deadline = time.monotonic() + CLEAN_S
    try:
        os.kill(head, signal.SIGTERM)
    except ProcessLookupError:  # it ended in the same moment
        return
    while head not in reap_children():
        if time.monotonic() > deadline:
            _log(f"the head process did not end within {CLEAN_S} s")
            return
        time.sleep(POLL_S)


def _keep_logs(order: Order) -> None:
    """Ray's logs lie in the run's folder, which is about to go; after a failure they are wanted."""
    kept = Path(order.log_file).with_name(FAILURE_FOLDER)
    shutil.rmtree(kept, ignore_errors=True)
    try:
        shutil.copytree(Path(order.run_folder, RAY_FOLDER, "session_latest/logs"), kept)
    except (OSError, shutil.Error) as error:
        _log(f"Ray's logs could not be kept: {error}")
    else:
        _log(f"Ray's logs are kept in {kept}")


def _log(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} shoal.guardian {line}\n")
    sys.stderr.flush()


def _ignore_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
