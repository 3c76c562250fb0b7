"""The data directory, of which one process at a time may be the owner."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from gateway.errors import GatewayError

ENDING_SECS = 1.0
POLL_SECS = 0.02


def lock_data_dir(data_dir: Path) -> int:
    """Take the data directory for this process alone, and those that inherit the lock; it ends with them. Blocks."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise GatewayError(
            f"The data directory {data_dir} cannot be written ({error.strerror}): make it writable, "
            "or set GATEWAY_DATA_DIR to another."
        ) from None
    # Receivers hold it, too, so that nobody else begins while they write; when their owner is killed they end at once.
    until = time.monotonic() + ENDING_SECS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < until:
                time.sleep(POLL_SECS)
                continue
            os.close(handle)
            raise GatewayError(
                f"The data directory {data_dir} is in use by another gateway: end that one, "
                "or set GATEWAY_DATA_DIR to another."
            ) from None
        return handle
