"""The client's own tests, against a cluster of ours."""
