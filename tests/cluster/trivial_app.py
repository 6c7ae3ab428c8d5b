"""The smallest application that a cluster can run: answers every path with 200 and its process id."""

from __future__ import annotations

import os
from typing import Any

from ray import serve

from deployments.config import AppArgs


async def _answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


def _asgi_app() -> Any:
    return _answer


@serve.deployment(ray_actor_options={"num_cpus": 0})
@serve.ingress(_asgi_app)
class Trivial:
    """One Serve replica."""


def build(args: AppArgs) -> serve.Application:
    assert args.data_folder.is_absolute()
    return Trivial.bind()


def build_failing(args: AppArgs) -> serve.Application:
    raise ValueError(f"this application can't be built for {args.cluster_id}")
