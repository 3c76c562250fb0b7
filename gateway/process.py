"""How a process of the gateway is set up once all of it is loaded."""

from __future__ import annotations

import gc
import sys

from gateway.pipeline.turns import SWITCH_SECS


def settle() -> None:
    """Keep what is there now, and let the event loop in soon.

    Searched for garbage again and again, what stays would hold up everybody for half a second over an event of a
    hundred thousand parts.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(SWITCH_SECS)
