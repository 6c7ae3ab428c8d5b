"""The tests that other projects publish for vector stores, against a cluster of ours and against the client's own mode."""
