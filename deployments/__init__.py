"""What Serve runs and people call: the router, the HTTP API, and the `shoal` command."""
