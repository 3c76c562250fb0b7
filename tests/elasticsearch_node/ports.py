"""Free ports on 127.0.0.1."""

import random
import socket
import sys

# Below the range from which the kernel takes the ports of outgoing connections (32768 on Linux, 49152
# elsewhere): a port that is free now is not lost to a passing client while its server starts or restarts.
_RANGE = range(20_000, 32_000)
# As long as they are open no other process of these tests is given the port, also while no server runs there.
_reserved: dict[int, socket.socket] = {}


def is_free(port: int) -> bool:
    """Say whether a server can listen on 127.0.0.1 at this port now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that still linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def free_port(*, also: int = 0) -> int:
    """Return a port that is free, as is the one ``also`` above it; never the same one twice."""
    for _ in range(1000):
        port = random.choice(_RANGE)
        if all(is_free(each) and _reserve(each) for each in {port, port + also}):
            return port
    raise RuntimeError(f"no free port was found between {_RANGE.start} and {_RANGE.stop}")


def _reserve(port: int) -> bool:
    """Keep a port from all other processes; return whether it was nobody's."""
    if port in _reserved:
        return False
    held = socket.socket(socket.AF_UNIX)
    if sys.platform == "linux":  # elsewhere there are no names that go with their process
        try:
            held.bind(f"\0ml-log-gateway-tests-port-{port}")
        except OSError:
            held.close()
            return False
    _reserved[port] = held
    return True
