"""What Serve would write for HAProxy, made by the installed Ray's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from deployments.haproxy import SERVER_TIMEOUT_S


def generated(folder: Path, router_ports: Sequence[int] = (23_000,), check: str = "5s") -> str:
    """With HAProxy's paths under `folder`; `check`: how often routers are asked for their health."""
    from ray.serve._private import haproxy as serve_haproxy
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE, HAPROXY_HEALTHZ_RULES_TEMPLATE
    from ray.serve.config import HTTPOptions

    config = serve_haproxy.HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_enabled=False,
        **dict.fromkeys(("health_check_inter", "health_check_fastinter", "health_check_downinter"), check),
        timeout_server_s=SERVER_TIMEOUT_S,
        is_head=True,
        has_received_routes=True,
        error_file_path=str(folder / "500.http"),
        http_options=HTTPOptions(host="127.0.0.1", port=7999),
    )
    servers = [
        serve_haproxy.ServerConfig(f"router-{number}", "127.0.0.1", port)
        for number, port in enumerate(router_ports, 1)
    ]
    backends = [serve_haproxy.BackendConfig("http-shoal", "/", servers=servers, app_name="shoal")] if servers else []
    environment = Environment(autoescape=False)
    environment.filters["haproxy_fmt"] = serve_haproxy._haproxy_fmt_literal
    health = config.build_health_route_info(backends)
    values = {
        "config": config,
        "backends": backends,
        "health_info": health,
        "route_info": health,
        "backends_with_health_config": [
            {"backend": backend, "health_config": backend.build_health_check_config(config)} for backend in backends
        ],
        "grpc_backends": [],
    }
    values["healthz_rules"] = environment.from_string(HAPROXY_HEALTHZ_RULES_TEMPLATE).render(values)
    return environment.from_string(HAPROXY_CONFIG_TEMPLATE).render(values) + "\n"
