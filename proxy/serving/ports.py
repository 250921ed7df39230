"""Addresses to listen at: one process takes a port, or several share it."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import ExitStack


def reserve(host: str, port: int, until: ExitStack) -> int:
    """Keep a port for processes that are going to listen there with SO_REUSEPORT.

    It is bound without that option first, so that nobody shares a port with a stranger who has set
    it, too; and it is not listened at, so that no client is sent here.  Returns the port that 0
    became.  ConfigError if it cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            taken = until.enter_context(socket.socket(family, kind, protocol))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken.bind((address[0], port, *address[2:]))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = taken.getsockname()[1]
    except OSError as error:
        raise not_to_be_had(host, port, error) from error
    return port


def not_to_be_had(host: str, port: int, error: OSError) -> ConfigError:
    """Why nobody can listen there."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.EADDRINUSE:
        reason += "; is another proxy running?"
    return ConfigError([f"cannot listen on {host}:{port}: {reason}"])
