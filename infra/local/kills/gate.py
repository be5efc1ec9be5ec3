"""A gate in front of a server on 127.0.0.1: passes connections on, or springs a trap at an exact instant of one.

It knows nothing of HTTP. Not here: delays and corrupted bytes.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from enum import Enum


class Moment(Enum):
    """When a trap springs."""

    # The connection is open, and not a byte of it has been passed on.
    BEFORE_REQUEST = "before the request"
    # The server has answered, and not a byte of the answer has been passed on.
    BEFORE_ANSWER = "before the answer"


class Gate:
    """Listens on a port of its own. What a trap stopped is never passed on."""

    def __init__(self, behind: int):
        self.behind = behind
        self.trap: tuple[Moment, Callable[[], None]] | None = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def set(self, moment: Moment, spring: Callable[[], None]) -> None:
        """Calls `spring` for every connection that reaches `moment`, until the gate is opened again."""
        self.trap = (moment, spring)

    def open(self) -> None:
        """Passes on every connection that begins from now on."""
        self.trap = None

    def listen(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(caller, self.trap), daemon=True).start()

    def serve(self, caller: socket.socket, trap: tuple[Moment, Callable[[], None]] | None) -> None:
        with caller:
            if trap and trap[0] is Moment.BEFORE_REQUEST:
                trap[1]()
                return
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.behind)) as server:
                threading.Thread(target=self.pump, args=(caller, server), daemon=True).start()
                self.pump(server, caller, trap[1] if trap else None)

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket, spring: Callable[[], None] | None = None) -> None:
        """Copies until either side ends, and then ends both directions."""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if spring:
                    spring()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
