"""Something at the TCP port that is no gateway, or one that behaves oddly."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def stranger(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listen on the port given back; `behave` has each connection, one at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, suppress(OSError):
                        peer.settimeout(20)
                        behave(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(25)
        assert not thread.is_alive()


def swallow(peer: socket.socket) -> None:
    """Read and say nothing, as Logstash does."""
    while peer.recv(65536):
        pass


def say(answer: bytes, *then: bytes) -> Callable[[socket.socket], None]:
    """Answer the first line, and each later read with the next of ``then``; then only read."""

    def behave(peer: socket.socket) -> None:
        for each in (answer, *then):
            if not peer.recv(65536):
                return
            peer.sendall(each)
        swallow(peer)

    return behave
