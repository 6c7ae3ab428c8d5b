"""The Serve application: routers behind HAProxy, each a coordinator with the HTTP API in front.

`build` is what `shoal up` deploys, with identity and folder already known; `serve_app` is the same for `serve run` and
`serve deploy`, which know a settings file at most (configs/serve.yaml). A router starts the supervisor if nobody has, so the
application alone brings up the whole cluster.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from cluster.api_keys import local_key
from cluster.coordinator import Coordinator
from cluster.shard_calls import Patience
from cluster.supervision import SupervisorSettings
from cluster.supervisor import start_supervisor
from deployments.admission import Admission
from deployments.cache_start import start_cache
from deployments.config import AppArgs, Settings
from deployments.data_folder import DataFolder, is_locked, open_folder
from deployments.http_app import HttpApp
from deployments.http_protocol import register
from deployments.observability import ObserveSettings
from deployments.router_log import start_log
from deployments.router_parts import RouterParts
from deployments.snapshot_settings import FOLDER_NAME
from deployments.tracing import check_installed
from deployments.version import SHOAL_VERSION
from shards.errors import Conflict

APP_NAME = "shoal"
GRACEFUL_SHUTDOWN_S = 5.0
HEALTH_CHECK_S = 2.0
"""Serve finds a router that died at the next check (its default of 10 s made that 14 s without an answer)."""


@serve.deployment(
    name="Router",
    # Serve's line per request costs 6 % of a router; ours says more (deployments/http_errors.py logs what failed).
    logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    graceful_shutdown_timeout_s=GRACEFUL_SHUTDOWN_S,
    health_check_period_s=HEALTH_CHECK_S,
)
@serve.ingress()
class Router:
    """One Serve replica: an event loop, a coordinator, the HTTP API."""

    async def __init__(self, args: AppArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        settings = supervisor_settings(args)
        control = await asyncio.to_thread(start_supervisor, settings)
        secret = bytes.fromhex((args.data_folder / "secret").read_text().strip())
        self._coordinator = Coordinator(control, secret, Patience(straggler_s=args.router.straggler_wait_s))
        await self._coordinator.start()
        cache = start_cache(self._coordinator, args.cache, secret)
        snapshots = args.snapshots.within(args.data_folder)
        if args.snapshots.folder is None:
            await asyncio.to_thread((args.data_folder / FOLDER_NAME).mkdir, exist_ok=True)
        admission = Admission(args.admission, args.router.replicas)
        parts = RouterParts(cache, ObserveSettings(args.log, args.tracing), snapshots, admission)
        self._app = HttpApp(self._coordinator, args.limits, SHOAL_VERSION, local_key(secret), parts)
        start_log(args.data_folder, args.log, self._app.observed.requests.router)
        register(self._app, args.router.max_ongoing_requests, args.admission.body_bytes_max)

    async def check_health(self) -> None:
        """Serve asks every HEALTH_CHECK_S, and restarts a router for which this raises three times in a row: so that
        must not be for a shard's sake. Searches as /readyz does, and logs what changed.
        """
        self._coordinator.check_alive()
        await self._app.observed.readiness.check()

    def __serve_build_asgi_app__(self) -> Any:
        """What answers HTTP requests that take Serve's own way (Serve calls this after the constructor)."""
        return self._app


def supervisor_settings(args: AppArgs) -> SupervisorSettings:
    """The part of the application's arguments that the supervisor needs."""
    return SupervisorSettings(
        data_folder=args.data_folder,
        cluster_id=args.cluster_id,
        node_id=args.node_id,
        shard_count=args.shard_count,
        bind_host=args.bind_host,
        shard_settings=args.shards,
    )


def build(args: AppArgs) -> serve.Application:
    """The application for a data folder that is already open."""
    options = {
        "num_replicas": args.router.replicas,
        "max_ongoing_requests": args.router.max_ongoing_requests,
        "ray_actor_options": {"num_cpus": 0},
    }
    application: serve.Application = Router.options(**options).bind(args)  # type: ignore[attr-defined]
    return application


def serve_app(args: dict[str, Any]) -> serve.Application:
    """The application from settings alone, for `serve run configs/serve.yaml`; the data folder is on the node that builds it.

    `args`: keys of Settings. Raises Conflict where a cluster of `shoal up` has the folder. (Each shard locks its own
    files, in either way of starting.)
    """
    settings = Settings.model_validate(args)
    check_installed(settings.tracing)
    path = settings.data_folder.absolute()
    path.mkdir(parents=True, exist_ok=True)
    if is_locked(path):
        raise Conflict(f"a cluster already runs on {path}; `shoal down` ends it")
    folder: DataFolder = open_folder(path)
    return build(
        AppArgs(
            data_folder=folder.path,
            cluster_id=folder.cluster_id,
            node_id=folder.node_id,
            shard_count=settings.cluster.shard_count,
            shards=settings.shards,
            router=settings.router,
            cache=settings.cache,
            limits=settings.limits,
            admission=settings.admission,
            log=settings.log,
            tracing=settings.tracing,
            snapshots=settings.snapshots,
        )
    )
