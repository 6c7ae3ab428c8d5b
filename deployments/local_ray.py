"""The head process of a local cluster: starts a private Ray, then Serve and the application, and stays until it is told to end.

Run by the guardian as `python -m deployments.local_ray GUARDIAN_PID`. Ray's own processes are its children and die with
it (Ray asks the kernel for that), and it dies with the guardian. Starting Ray in here instead of by `ray start`
saves a second Python that imports Ray, and leaves every port to the system to choose, so that clusters never collide.

Everything of Ray 2.60 that is private and used here: `Node` and `RayParams` (what `ray start` is made of, the only way to a
node without an API server) and the environment variables below.
"""

from __future__ import annotations

import http.client
import importlib
import logging
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from deployments.config import AppArgs
from deployments.launch import RAY_FOLDER, Event, Order, take_stdout, tell
from deployments.ports import LOOPBACK
from deployments.processes import die_with_parent

SUPERVISOR = "supervisor"
NAMESPACE = "shoal"
APPLICATION = "shoal"
STOP_S = 6.0
"""How long the supervisor may take to close the shards: a second more than it gives them."""

OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""Of the memory-backed file system, taken as it is used. The data plane does not go through it."""
LOGICAL_CPUS = 4
"""What actors may ask for together, whatever the machine has: Ray starts so many workers ahead, and Serve needs as many."""
WATCH_S = 0.5
PROBE_S = 0.05

logger = logging.getLogger("shoal.head")


def ray_environment(run_folder: Path) -> dict[str, str]:
    """For every process of the cluster's Ray; written before any of them imports Ray. Makes the cluster's own token."""
    token = run_folder / "ray-token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return {
        # Named for other systems, it is what makes Ray take loopback for the node's address, and so listen there only.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 by default: beside anything else on the machine, a load generator included
        "RAY_DEDUP_LOGS": "0",
        # Ray's own metrics, a few for every request: nobody reads them here, and its agent spent 0.16 of a core on them at
        # 2,300 requests/s.
        "RAY_enable_metrics_collection": "0",
        # Graphs in huge pages where the system allows it (glibc 2.35): one search 202 us without, 177 us with (173, 146).
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        # A scan is one product of a matrix and a vector; threads of its own only get in each other's way. 20,000 rows of 50
        # dimensions on two cores: 0.26 ms with one thread, 1.1 ms with two.
        "OPENBLAS_NUM_THREADS": "1",
    }


class Stopped(Exception):
    """The guardian asked for the end."""


def main(guardian: int) -> None:
    """Start the cluster, tell how it goes, watch it, and close it cleanly at SIGTERM."""
    die_with_parent(guardian)
    signal.signal(signal.SIGTERM, _raise_stopped)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order.from_stdin()
    events = take_stdout()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    exit_code = 1
    try:
        node = _start(order, lambda phase: tell(events, Event("phase", phase)))
        tell(events, Event("ready"))
        events.close()
        while node.remaining_processes_alive():
            time.sleep(WATCH_S)
        logger.error("a process of Ray died: %s", [name for name, _ in node.dead_processes()])
    except Stopped:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _close_shards()
        exit_code = 0
    except Exception as error:
        logger.exception("the cluster did not start")
        tell(events, Event("failed", str(error)))
    # Ray's way out would wait for its processes one by one; the guardian ends them all at once.
    logging.shutdown()
    os._exit(exit_code)


def _start(order: Order, phase: Any) -> Any:
    deadline = time.monotonic() + order.start_timeout_s
    phase("ray")
    # The import takes 1 s of this process, in which the processes of Ray start anyway. Ray's must not be started from the
    # thread: the kernel would end them with it.
    importing = threading.Thread(target=__import__, args=("ray.serve",), daemon=True)
    node = _start_node(Path(order.run_folder, RAY_FOLDER), importing)
    signal.signal(signal.SIGTERM, _raise_stopped)  # ray.init put its own there
    importing.join()
    phase("serve")
    _deploy(order, phase)
    phase("routers")
    _await_ready(order, deadline)
    return node


def _start_node(folder: Path, importing: threading.Thread) -> Any:
    """A Ray head on loopback, without dashboard, API server, monitor and log monitor; and this process as its driver."""
    import ray
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    class HeadNode(Node):
        def start_api_server(self, **_: Any) -> None:
            """Serves the dashboard's HTTP API, which nobody asks; 1.5 to 5 s of start."""
            self._webui_url = ""

    importing.start()
    any_port = 0
    parameters = RayParams(
        node_ip_address=LOOPBACK,
        temp_dir=str(folder),
        num_cpus=LOGICAL_CPUS,
        object_store_memory=OBJECT_STORE_BYTES,
        gcs_server_port=any_port,
        min_worker_port=any_port,
        max_worker_port=any_port,
        dashboard_agent_listen_port=any_port,
        metrics_export_port=any_port,
        include_dashboard=False,
        include_log_monitor=False,  # type: ignore[arg-type]
        no_monitor=True,
        _system_config={},
    )
    node = HeadNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)
    ray.init(
        address=node.address,
        namespace=NAMESPACE,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=str(folder),
    )
    return node


def _deploy(order: Order, phase: Any) -> None:
    from ray import serve

    # The host is for the routers' own ports. HAProxy, in front of them, listens where the wrapper says.
    serve.start(
        http_options={"host": LOOPBACK, "port": order.http_port},
        logging_config={"enable_access_log": False},
    )
    phase("application")
    module, _, function = order.application.partition(":")
    build = getattr(importlib.import_module(module), function)
    try:
        serve.run(build(AppArgs.model_validate(order.app_args)), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        deployments = serve.status().applications[APPLICATION].deployments
        messages = {name: found.message.strip() for name, found in deployments.items() if found.message.strip()}
        for name, message in messages.items():
            logger.error("deployment %s: %s", name, message)
        # The last line of a traceback is the exception.
        last_lines = [f"{name}: {message.splitlines()[-1]}" for name, message in messages.items()]
        raise RuntimeError("; ".join(last_lines) or str(error)) from error


def _await_ready(order: Order, deadline: float) -> None:
    """Until the user's own way, HAProxy and a router, answers 200."""
    host, _, port = order.url.removeprefix("http://").rpartition(":")
    answer = "no answer"
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            answer = f"{response.status} {response.read(500).decode(errors='replace')}"
            if response.status == http.client.OK:
                return
        except (OSError, http.client.HTTPException) as error:
            answer = repr(error)
        finally:
            connection.close()
        time.sleep(PROBE_S)
    raise TimeoutError(f"not ready after {order.start_timeout_s:.0f} s; the last answer was: {answer}")


def _close_shards() -> None:
    """Let the supervisor, where there is one, close what it has started."""
    if "ray" not in sys.modules:
        return
    import ray

    try:
        supervisor = ray.get_actor(SUPERVISOR, namespace=NAMESPACE)
        ray.get(supervisor.shutdown.remote(), timeout=STOP_S)
    except ValueError:
        logger.info("there is no supervisor to close")
    except Exception:
        logger.exception("the shards were not closed cleanly; their logs will be replayed at the next start")


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    main(int(sys.argv[1]))
