"""The empty handler: what the same Serve and HAProxy stack does when nobody searches.

Everything that is not Shoal's own is as in deployments/app.py: the route class (an ASGI app by `serve.ingress`),
logging, niceness, options of the deployment, and the way it is started. It reads the same body, parses nothing, and
answers with fixed bytes: those that were last PUT, so that the benchmark gives it an answer of Shoal's own.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from deployments.app import GRACEFUL_SHUTDOWN_S
from deployments.config import AppArgs
from deployments.http_app import read_body

BODY_BYTES_MAX = 32 * 1024 * 1024


class EmptyApp:
    """ASGI 3."""

    def __init__(self) -> None:
        self._answer = b"{}"

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await read_body(receive, BODY_BYTES_MAX)
        if scope["method"] == "PUT":
            self._answer = body
        length = (b"content-length", b"%d" % len(self._answer))
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._answer})


@serve.deployment(
    logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    graceful_shutdown_timeout_s=GRACEFUL_SHUTDOWN_S,
)
@serve.ingress()
class Empty:
    """One Serve replica."""

    def __serve_build_asgi_app__(self) -> EmptyApp:
        return EmptyApp()


def build(args: AppArgs) -> serve.Application:
    """The application, with the options that deployments/app.py gives its router."""
    options = {
        "num_replicas": args.router.replicas,
        "max_ongoing_requests": args.router.max_ongoing_requests,
        "ray_actor_options": {"num_cpus": 0},
    }
    application: serve.Application = Empty.options(**options).bind()  # type: ignore[attr-defined]
    return application
