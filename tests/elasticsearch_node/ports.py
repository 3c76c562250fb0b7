"""Free ports on 127.0.0.1."""

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections (32768 on Linux, 49152
# elsewhere): a port that is free now is not lost to a passing client while its server starts or restarts.
_RANGE = range(20_000, 32_000)
_handed_out: set[int] = set()


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
        pair = {port, port + also}
        if not pair & _handed_out and all(is_free(each) for each in pair):
            _handed_out.update(pair)
            return port
    raise RuntimeError(f"no free port was found between {_RANGE.start} and {_RANGE.stop}")
