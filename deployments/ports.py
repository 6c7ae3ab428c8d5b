"""Free ports on loopback, whether a port that somebody asked for is free, and who can reach an address.

A free port is found by binding and letting go, so another process may take it in between. Whoever uses one must notice
when its own bind fails; nothing here holds a port.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from errno import EADDRINUSE

from shards.errors import Conflict, InvalidRequest, Unavailable

LOOPBACK = "127.0.0.1"
BLOCK_FIRST = 20_000
BLOCK_LAST = 32_000
"""Where blocks are looked for: below the ports that Linux gives to outgoing connections (32768 and up)."""
BLOCK_TRIES = 200


def check_port_free(host: str, port: int) -> None:
    """Raises Conflict if something listens there, InvalidRequest if the host is none of this machine's."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidRequest(f"the HTTP host {host!r} is not known: {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: connections that are winding down after a `down` are no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise Conflict(
                    f"port {port} on {host} is in use by another process; stop it or choose another port"
                ) from None
            raise InvalidRequest(f"can't listen on {host} port {port}: {error.strerror}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there. A name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port_block(count: int) -> range:
    """`count` ports in a row, all free on loopback now. For software that wants a range instead of asking the system."""
    for _ in range(BLOCK_TRIES):
        first = random.randrange(BLOCK_FIRST, BLOCK_LAST - count)
        block = range(first, first + count)
        if all(_is_free(port) for port in block):
            return block
    raise Unavailable(f"no {count} free ports in a row between {BLOCK_FIRST} and {BLOCK_LAST} on {LOOPBACK}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
