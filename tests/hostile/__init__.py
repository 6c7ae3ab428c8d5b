"""Bad input against the HTTP API, over real sockets: a corpus that is made from a seed, and what has to hold under it."""
