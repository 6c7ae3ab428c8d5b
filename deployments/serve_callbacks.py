"""What a local cluster changes inside Ray Serve's own processes, through the two callbacks that Serve offers.

Serve calls them by import path (see `haproxy.py`). They replace functions of Ray 2.60 and of its HTTP server, so each checks
that what it replaces is there: a Ray in which it moved fails at once and says where, instead of listening on every interface.
"""

from __future__ import annotations

from typing import Any

from deployments.accepting import start_accepting


def in_router() -> list[Any]:
    """In a Serve replica, before its servers start: gRPC between deployments stays on loopback, and waiting connections
    are accepted all at once. No middlewares.

    Serve binds gRPC to all interfaces whatever the HTTP host ("[::]:0", ray/serve/_private/replica.py).
    """
    import uvicorn
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    def add_on_loopback(server: Any, address: str) -> int:
        if address != "[::]:0":
            raise RuntimeError(f"a Serve replica wants to listen on {address!r}; expected '[::]:0'")
        return int(add_port_to_grpc_server(server, "127.0.0.1:0"))

    startup: Any = getattr(uvicorn.Server, "startup", None)

    async def start(server: Any, sockets: Any = None) -> None:
        await start_accepting(server, sockets, startup)

    _replace(replica, "add_port_to_grpc_server", add_on_loopback)
    _replace(uvicorn.Server, "startup", start)
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
