"""The empty handler: what the same Serve and HAProxy stack does when nobody searches.

Everything that is not Shoal's own is as in deployments/app.py: the route class (an ASGI app by `serve.ingress`),
logging, niceness, options of the deployment, and the way it is started. It reads the same body, parses nothing, and
answers with fixed bytes: those that were last PUT, so that the benchmark gives it an answer of Shoal's own.

`build` is the handler behind all of Serve's own way, as anybody would deploy it; `build_direct` the same handler on the
short way that Shoal's routers take (deployments/http_protocol.py).
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from cluster.scope import Scope
from deployments.app import GRACEFUL_SHUTDOWN_S
from deployments.config import AppArgs
from deployments.http_app import read_body
from deployments.http_message import Call, Headers, HttpContext, Reply, Request
from deployments.http_protocol import register

BODY_BYTES_MAX = 32 * 1024 * 1024
_NO_COLLECTION = Scope("")


class EmptyApp:
    """ASGI 3."""

    body_bytes_max = BODY_BYTES_MAX

    def __init__(self) -> None:
        self._answer = b"{}"

    def admit(self, method: str, path: str, query_string: bytes, headers: Headers, started: float) -> Call:
        """Let everything in that comes by the short way."""
        request = Request(_NO_COLLECTION, "", b"", query_string, started, headers=headers)
        return Call(self._keep if method == "PUT" else self._give, request)

    async def answer(self, call: Call, body: bytes) -> Reply:
        """The same, called by the short way."""
        call.request.body = body
        return await call.handler(None, call.request)  # type: ignore[arg-type]  # neither asks the context

    async def _give(self, _: HttpContext, request: Request) -> Reply:
        return Reply(self._answer)

    async def _keep(self, _: HttpContext, request: Request) -> Reply:
        self._answer = request.body
        return Reply(self._answer)

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

    async def __init__(self, ongoing_max: int | None) -> None:  # type: ignore[misc]  # Serve awaits it
        self._app = EmptyApp()
        if ongoing_max is not None:
            register(self._app, ongoing_max)

    def __serve_build_asgi_app__(self) -> EmptyApp:
        return self._app


def build(args: AppArgs) -> serve.Application:
    """The application on Serve's own way, with the options that deployments/app.py gives its router."""
    return _bound(args, None)


def build_direct(args: AppArgs) -> serve.Application:
    """The application on the short way."""
    return _bound(args, args.router.max_ongoing_requests)


def _bound(args: AppArgs, ongoing_max: int | None) -> serve.Application:
    options = {
        "num_replicas": args.router.replicas,
        "max_ongoing_requests": args.router.max_ongoing_requests,
        "ray_actor_options": {"num_cpus": 0},
    }
    application: serve.Application = Empty.options(**options).bind(ongoing_max)  # type: ignore[attr-defined]
    return application
