"""A router's result cache, put together from the settings. What talks to Redis is imported only where there is one."""

from __future__ import annotations

import hmac
from random import random

from deployments.cache_counts import CacheCounts
from deployments.cache_level_two import LevelTwo
from deployments.cache_question import SearchedCluster
from deployments.cache_settings import CacheSettings
from deployments.result_cache import ResultCache

_PURPOSE = b"shoal result cache"


def start_cache(cluster: SearchedCluster, settings: CacheSettings, secret: bytes) -> ResultCache | None:
    """The cache; None where it is off. `secret`: the cluster's, from which the key of what is shared is made. On the router's
    loop. Raises InvalidRequest where the address of Redis is none.
    """
    if not settings.l1_bytes:
        return None
    counts = CacheCounts()
    if settings.redis_url is None:
        return ResultCache(cluster, settings, counts)
    from deployments.redis_cache import RedisStore

    key = hmac.digest(secret, _PURPOSE, "sha256")
    level_two = LevelTwo(RedisStore(settings, counts), settings, counts, key, random)
    return ResultCache(cluster, settings, counts, level_two)
