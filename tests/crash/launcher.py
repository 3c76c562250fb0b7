"""Starts a gateway that dies where it is told to: ``python -m tests.crash.launcher … serve …``.

SIGUSR1 is a power cut at that moment. ``--fault NAME --call N`` dies at the nth call of a fault's target,
``--power`` by a power cut instead of SIGKILL. What is left of the command line is the gateway's.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from tests.crash import faults, sabotage
from tests.crash.disk import Disk


def main() -> None:
    """Arm what was asked for, then be ``gateway``."""
    parser = argparse.ArgumentParser(prog="tests.crash.launcher", allow_abbrev=False)
    parser.add_argument("--spool", type=Path, required=True, help="the folder of segments that power cuts befall")
    parser.add_argument("--platter", type=Path, required=True, help="a folder for what is known to be synced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=faults.FAULTS)
    parser.add_argument("--call", type=int, default=1)
    parser.add_argument("--power", action="store_true")
    parser.add_argument("--sabotage", choices=sabotage.SABOTAGES)
    asked, rest = parser.parse_known_args()

    disk = Disk(asked.spool, asked.platter, random.Random(asked.seed))
    disk.install()
    if asked.sabotage:
        sabotage.apply(asked.sabotage)

    def die() -> None:
        if asked.power:
            disk.cut()
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()  # the signal is on its way

    if asked.fault:
        faults.arm(asked.fault, asked.call, die)

    # Blocked in every thread that is started from now on, so that the one below gets it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def await_power_cut() -> None:
        signal.sigwait({signal.SIGUSR1})
        disk.cut()
        os.kill(os.getpid(), signal.SIGKILL)

    parent = os.getppid()

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    for task in (await_power_cut, end_with_parent):
        threading.Thread(target=task, daemon=True).start()
    sys.argv = ["gateway", *rest]
    from gateway.cli import main as gateway

    gateway()


if __name__ == "__main__":
    main()
