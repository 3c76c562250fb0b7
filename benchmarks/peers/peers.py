"""The peers: what each is called, where it is found, how it is checked and started."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enrichers import DEFAULT_PATTERNS

HERE = Path(__file__).parent
CHECK_SECS = 120


@dataclass(frozen=True, eq=False)
class Peer:
    """A program, found by the variable or on the PATH; its first file is its configuration.

    ``start`` and ``check`` give the arguments behind the program, told the configuration and the folder.
    """

    name: str
    variable: str
    programs: tuple[str, ...]
    files: tuple[str, ...]
    start: Callable[[Path, Path], list[str]]
    check: Callable[[Path, Path], list[str]]
    version: str = "--version"
    words: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    ready_secs: float = 15
    warm_ups: int = 0  # times that all events are sent before, beside the warm-up of everybody

    def program(self) -> str | None:
        """Return where the program is, None when it is not installed."""
        named = [os.environ[self.variable]] if os.environ.get(self.variable) else []
        # sbin is not on everybody's PATH.
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        return next((found for each in (*named, *self.programs) if (found := shutil.which(each, path=path))), None)

    def version_of(self, program: str) -> str:
        """Return what the program says of its version, in one line."""
        ended = subprocess.run([program, self.version], capture_output=True, text=True, timeout=CHECK_SECS, check=False)
        return next((line.strip() for line in ended.stdout.splitlines() if line.strip()), "unknown")

    def configure(self, folder: Path, tcp_port: int, sink_port: int) -> Path:
        """Write the configuration for these ports into a folder; return its first file."""
        words = {"TCP_PORT": str(tcp_port), "SINK_PORT": str(sink_port), "FOLDER": str(folder), **self.words}
        for name, pattern in DEFAULT_PATTERNS.items():
            pattern = pattern.replace("'", ".")  # it stands between quotes
            words[f"RAW_{name}"] = pattern
            words[f"ESCAPED_{name}"] = pattern.replace("\\", "\\\\")
            words[f"POSIX_{name}"] = pattern.replace("(?:", "(").replace("\\", "\\\\")
        for file in self.files:
            text = (HERE / file).read_text()
            for word, value in words.items():
                text = text.replace(f"__{word}__", value)
            (folder / file).write_text(text)
        return folder / self.files[0]

    def complaint(self, program: str, folder: Path) -> str | None:
        """Return what the program has against its configuration, None when it takes it."""
        config = self.configure(folder, 20_001, 20_002)
        command = [program, *self.check(config, folder)]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=CHECK_SECS, check=False, env={**os.environ, **self.env}
        )
        return None if ended.returncode == 0 else f"{' '.join(command)}: {ended.stdout}{ended.stderr}"


def _logstash(queue: str) -> Peer:
    def words(config: Path, folder: Path) -> list[str]:
        return ["--path.settings", str(folder), "-f", str(config), "--path.data", f"{folder}/data"]

    return Peer(
        f"Logstash, {queue} queue",
        "LOGSTASH",
        ("logstash", "/usr/share/logstash/bin/logstash"),
        ("logstash.conf", "logstash.yml"),
        words,
        lambda config, folder: [*words(config, folder), "--config.test_and_exit"],
        words={"QUEUE": queue},
        env={"LS_JAVA_OPTS": "-Xms1g -Xmx1g"},
        ready_secs=120,
        warm_ups=5,  # Java is three times as fast then
    )


PEERS = (
    _logstash("memory"),
    _logstash("persisted"),
    Peer(
        "Vector",
        "VECTOR",
        ("vector",),
        ("vector.yaml",),
        lambda config, _: ["--quiet", "--config", str(config)],
        lambda config, _: ["validate", "--no-environment", str(config)],
    ),
    Peer(
        "Fluent Bit",
        "FLUENT_BIT",
        ("fluent-bit", "/opt/fluent-bit/bin/fluent-bit"),
        ("fluent-bit.yaml", "fluent-bit.lua"),
        lambda config, _: ["--quiet", "-c", str(config)],
        lambda config, _: ["--dry-run", "-c", str(config)],
    ),
    Peer(
        "rsyslog",
        "RSYSLOGD",
        ("rsyslogd",),
        ("rsyslog.conf",),
        lambda config, folder: ["-n", "-f", str(config), "-i", f"{folder}/pid"],
        lambda config, _: ["-N", "1", "-f", str(config)],
        version="-v",
    ),
    Peer(
        "syslog-ng",
        "SYSLOG_NG",
        ("syslog-ng",),
        ("syslog-ng.conf",),
        lambda config, folder: [
            *("-F", "--no-caps", "-f", str(config), "-R", f"{folder}/persist"),
            *("-p", f"{folder}/pid", "-c", f"{folder}/ctl"),
        ],
        lambda config, _: ["--syntax-only", "-f", str(config)],
    ),
    Peer(
        "OpenTelemetry Collector",
        "OTELCOL",
        ("otelcol-contrib", "otelcol"),
        ("otelcol.yaml",),
        lambda config, _: ["--config", str(config)],
        lambda config, _: ["validate", "--config", str(config)],
    ),
)
