"""A shard's process: the thin Ray shell round ShardHost.

It starts the host, tells the supervisor that it lives, and passes orders on. Ray runs the constructor again after a
crash, in a new process; so everything is recovered from the folder, and the data plane listens on another port. The
host may answer that it doesn't know a collection until the supervisor has had it open all of them: so the supervisor
shows the address only then (cluster/reconcile.py).

Searches and writes don't come this way: they travel on the host's own socket, in the host's own threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import ray

from shards.errors import Internal, ShoalError
from shards.identity import ShardIdentity
from shards.report import CollectionOrder, ShardReport
from shards.settings import ShardSettings

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class ActorAddress:
    """A named actor."""

    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class ShardActorArguments:
    """What a shard's process is started with; it stays the same in all its lives, and holds no secret (Ray may log
    it).

    `secret_file` holds the cluster's secret in hex. `host_class` is "module:name" of a class like ShardHost.
    """

    folder: Path
    identity: ShardIdentity
    secret_file: Path
    bind_host: str
    settings: ShardSettings
    supervisor: ActorAddress
    host_class: str = "shards.host:ShardHost"


class ShardActor:
    """One shard's process. Its calls are served one at a time, in the order of the caller."""

    def __init__(self, arguments: ShardActorArguments) -> None:
        logging.basicConfig(format=LOG_FORMAT)
        logging.getLogger("shards").setLevel(logging.INFO)
        self._shard_id = arguments.identity.shard_id
        secret = bytes.fromhex(arguments.secret_file.read_text().strip())
        module, name = arguments.host_class.split(":")
        # Imported here: hnswlib and the server are for this process alone, not for the supervisor that names it.
        host_class: Any = getattr(import_module(module), name)
        self._host = host_class(arguments.folder, arguments.identity, secret, arguments.bind_host, arguments.settings)
        self._address: tuple[str, int] = self._host.start()
        self._tell(arguments.supervisor)

    def report(self) -> ShardReport:
        """How this life of the shard is."""
        description = self._host.describe()
        host, port = self._address
        return ShardReport(host, port, description.incarnation, description.problem, os.getpid())

    def ensure_collections(self, orders: Sequence[CollectionOrder]) -> dict[str, ShoalError]:
        """Have the host open these; what failed, by uid. One that fails doesn't keep the others from opening."""
        failed: dict[str, ShoalError] = {}
        for order in orders:
            try:
                self._host.ensure_collection(order.uid, order.spec, order.epoch, order.create, order.restored)
            except ShoalError as error:
                failed[order.uid] = error
            except Exception as error:
                logger.exception("shard %d: collection %s", self._shard_id, order.uid)
                failed[order.uid] = Internal(f"shard {self._shard_id}: {type(error).__name__}: {error}")
        return failed

    def drop_collection(self, uid: str) -> None:
        self._host.drop_collection(uid)

    def stop(self) -> None:
        """Close the files cleanly; the process is ended by whoever asked."""
        self._host.stop()

    def _tell(self, supervisor: ActorAddress) -> None:
        """Have the supervisor know at once. Its absence is no harm: it asks every second while it lives."""
        try:
            handle: Any = ray.get_actor(supervisor.name, supervisor.namespace)
        except ValueError:
            logger.info("shard %d: no supervisor to tell", self._shard_id)
            return
        handle.shard_started.remote(self._shard_id, self.report())
