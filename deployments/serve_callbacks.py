"""What a local cluster changes inside Ray Serve's own processes, through the two callbacks that Serve offers.

Serve calls them by import path (see `haproxy.py`). Both replace a private function of Ray 2.60, so each checks that what it
replaces is there: a Ray in which it moved fails at once and says where, instead of listening on every interface.
"""

from __future__ import annotations

from typing import Any


def in_router() -> list[Any]:
    """In a Serve replica, before its servers start: gRPC between deployments stays on loopback. No middlewares.

    Serve binds it to all interfaces whatever the HTTP host ("[::]:0", ray/serve/_private/replica.py).
    """
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    def add_on_loopback(server: Any, address: str) -> int:
        if address != "[::]:0":
            raise RuntimeError(f"a Serve replica wants to listen on {address!r}; expected '[::]:0'")
        return int(add_port_to_grpc_server(server, "127.0.0.1:0"))

    _replace(replica, "add_port_to_grpc_server", add_on_loopback)
    return []


def in_controller() -> None:
    """In the Serve controller: no fallback proxy.

    It would be a second, slow way to the application behind HAProxy's, and while no router is up it would hold requests
    that should get a 503. Without it a cluster also has one process of 160 MB less, and starts 2 s of CPU time sooner.
    """
    from ray.serve._private.proxy_state import ProxyStateManager

    _replace(ProxyStateManager, "_start_fallback_proxy_if_needed", lambda *_: None)


def _replace(owner: Any, name: str, replacement: Any) -> None:
    if not hasattr(owner, name):
        raise RuntimeError(f"this version of Ray Serve has no {owner.__name__}.{name}; Shoal needs Ray 2.60")
    setattr(owner, name, replacement)
