"""The documents as their readers use them: their commands run against a real gateway, their examples tried.

A code block is one of these; the word behind the three backticks says which:

- indented by four spaces, or `sh`: commands. They are run as they stand, but for the ports.
- `text` or `json` right behind commands: what they print. `…` stands for anything, white space does not count.
- `sh fails`: commands that end with exit code 1, with what they write to stderr.
- `yaml`: settings. `yaml NAME`: those of the gateway that the commands in `sh NAME` go to.
- `python`: a program that is run. `python FILE`: a file that such settings name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.gateway_process import ROOT, Gateway

DOCS = ROOT / "docs"
COMMANDS = "sh"
RUN_SECS = 50
# These open ports and data of their own, beside those of the gateway that runs.
_STARTS = re.compile(r"\bgateway (serve|check)\b")
# `gateway serve` runs until it is stopped: here, as soon as it serves.
_SERVE = r"""
gateway() {
  if [ "$1" != serve ]; then command gateway "$@"; return; fi
  command gateway "$@" > .served 2>&1 &
  until grep -q 'Ctrl-C stops' .served; do kill -0 $! || { cat .served; return 1; }; sleep 0.1; done
  kill -TERM $!
  wait $!
  cat .served
}
"""


class Block(NamedTuple):
    """A code block: the words behind its backticks, what it holds, the number of its first line."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """What is not in a code block."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    def blocks(self, kind: str | None = None) -> list[Block]:
        """Return the code blocks, or those of one kind."""
        return [block for block in _blocks(self.text) if kind is None or block.kind == kind]

    def lines_of_commands(self) -> list[str]:
        """Return each line of each block of commands, without its comment."""
        lines = [line for block in self.blocks(COMMANDS) for line in block.text.splitlines()]
        return [line.strip().partition("  #")[0].strip() for line in lines]

    def steps(self) -> Iterator[tuple[Block, Block | None]]:
        """Give each block of commands, with the block of what it prints where one follows."""
        blocks = self.blocks()
        lines = self.text.splitlines()
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.kind.split()[:1] != [COMMANDS]:
                continue
            shown = None
            if following is not None and following.kind in ("text", "json"):
                end = block.line + block.text.count("\n")
                between = "".join(lines[end : following.line - 2]).replace("```", "").strip()
                shown = None if between else following
            yield block, shown

    def table(self, after: str) -> list[list[str]]:
        """Return the cells of the rows of the first table behind a text, such as a heading."""
        _, found, below = self.text.partition(after)
        assert found, f"{self.path.name} has no {after!r}"
        rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
        assert rows, f"{self.path.name} has no table behind {after!r}"
        _, _, *lines = rows[0].splitlines()
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        first = at + 1
        if lines[at].startswith("```"):
            kind = lines[at].removeprefix("```").strip()
            at += 1
            while lines[at] != "```":
                at += 1
            yield Block(kind, "\n".join(lines[first:at]) + "\n", first + 1)
        elif lines[at].startswith("    ") and not lines[at - 1]:
            while at + 1 < len(lines) and lines[at + 1].startswith("    "):
                at += 1
            yield Block(COMMANDS, "\n".join(line[4:] for line in lines[first - 1 : at + 1]) + "\n", first)
        at += 1


def code(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def with_ports(text: str, running: Gateway) -> str:
    """Return a text with the ports that documents name replaced by those of a gateway."""
    ports = {"5001": "GATEWAY_TCP__PORT", "5002": "GATEWAY_TCP__TLS_PORT", "8080": "GATEWAY_HTTP__PORT"}
    return re.sub(r"\b(5001|5002|8080)\b", lambda found: running.env.get(ports[found[1]], found[1]), text)


def run(commands: str, running: Gateway, *, fails: bool = False) -> str:
    """Paste commands into a shell where the gateway was started; return what they print.

    The words of the command line find the running gateway; those that start one get their own ports and data.
    Commands that are to fail must end with exit code 1, and what they write to stderr is returned too.
    """
    commands = re.sub(
        r"(gateway generate\b[^|;>&\n]*)", rf"\1 --port {running.tcp_port}", with_ports(commands, running)
    )
    own = {"GATEWAY_TCP__PORT": "0", "GATEWAY_HTTP__PORT": "0", "GATEWAY_DATA_DIR": f"{running.folder}/another"}
    ports = {name: value for name, value in running.env.items() if name.endswith("PORT")}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY", "ELASTICSEARCH"))}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _SERVE + commands],
        cwd=running.folder,
        env={
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **(own if _STARTS.search(commands) else ports),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if fails else subprocess.PIPE,
        text=True,
        timeout=RUN_SECS,
        check=False,
    )
    assert ended.returncode == int(fails), f"{commands}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def all_arrived(status: dict[str, Any]) -> bool:
    """Whether everything that was taken is where it can be found."""
    books = status["books"]
    waiting = [each["waiting"] for each in books["sinks"].values()]  # none while the sinks are being opened
    return books["dead_letters"] >= books["refused"] and bool(waiting) and not any(waiting)


def same(shown: str, said: str) -> bool:
    """Whether a document shows what was said: `…` stands for anything, white space does not count."""
    pattern = ".*".join(re.escape("".join(part.split())) for part in shown.split("…"))
    return re.fullmatch(pattern, "".join(said.split()), re.DOTALL) is not None
