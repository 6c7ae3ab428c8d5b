"""Many shards as one: slots, shard map, catalogue, gather, merge, supervisor, socket client."""
