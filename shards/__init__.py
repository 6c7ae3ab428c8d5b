"""One shard: its log, growing segment, sealed segments, memory model, socket server and Ray actor."""
