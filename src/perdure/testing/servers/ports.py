"""Which port is a server's own, also while it is down? One that is bound, but never listened on, for the server's sake.

Linux lets a second socket listen on a port that a first one has merely bound, when both allow the reuse of addresses,
as servers do. Nobody else is given the port meanwhile: neither another test's server nor an outgoing connection.
"""

from __future__ import annotations

import socket
import sys

HOST = "127.0.0.1"


class Port:
    """A port of 127.0.0.1, reserved until `release`."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, 0))
        self.number = int(self._socket.getsockname()[1])
        if sys.platform != "linux":
            self._socket.close()  # elsewhere the server could not bind beside us: the port is only probably free

    def release(self) -> None:
        """Anybody may have the port."""
        self._socket.close()
