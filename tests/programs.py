"""Programs that tests call and that do not come with Python."""

import os
import shutil
from typing import NoReturn

import pytest

# Where Debian's package has another name.
PACKAGES = {
    "bwrap": "bubblewrap", "flock": "util-linux", "nc": "netcat-openbsd", "promtool": "prometheus",
    "setpriv": "util-linux", "sync": "coreutils",
}  # fmt: skip


def need(*programs: str) -> None:
    """Where a program is missing fail the test in CI, skip it elsewhere."""
    for program in programs:
        if shutil.which(program) is None:
            missing(f"{program} is missing: apt-get install {PACKAGES.get(program, program)}")


def missing(reason: str) -> NoReturn:
    """Fail the test in CI, skip it elsewhere: something that it needs is not there."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
