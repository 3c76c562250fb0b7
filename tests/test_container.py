"""The image and the compose file, as far as they can be tried without a container engine.

The Dockerfile's instructions are read and carried out here: what it copies is there, what it runs installs a gateway,
and the command that it starts works as another user with nothing but the data directory to write to.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

from benchmarks.measure import tree
from gateway.configuration import load
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, Gateway
from tests.programs import need

DOCKERFILE = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
INSTRUCTIONS = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in DOCKERFILE.splitlines())]
LAST_STAGE = INSTRUCTIONS[max(at for at, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PREFIX = "/opt/gateway"


def arguments(instruction: str, stage: list[tuple[str, str]] = LAST_STAGE) -> list[str]:
    return [rest for word, rest in stage if word == instruction]


def command(instruction: str) -> list[str]:
    (form,) = arguments(instruction)
    words: list[str] = json.loads(form[form.index("[") :])
    return words


ENV = dict(pair.split("=", 1) for pair in shlex.split(" ".join(arguments("ENV"))))
SETTINGS_ENV = {name: value for name, value in ENV.items() if name.startswith("GATEWAY_")}
SOURCES = [
    source
    for rest in arguments("COPY", INSTRUCTIONS)
    if not rest.startswith("--from")
    for source in rest.split()[:-1]
]  # fmt: skip


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a path through: the last pattern that fits it or a folder above it decides."""
    let_through = True
    names = [path, *map(str, Path(path).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        anywhere = pattern.removeprefix("**/") if pattern.startswith("**/") else None
        if any(fnmatch(Path(name).name, anywhere) if anywhere else fnmatch(name, pattern) for name in names):
            let_through = line.startswith("!")
    return let_through


def test_what_it_copies_is_there() -> None:
    """Each source of COPY exists and reaches the build; what the image has no use for does not."""
    assert SOURCES
    for source in SOURCES:
        assert (ROOT / source).exists(), source
        assert in_context(source), source
    for other in (".git", ".venv", "data", "tests", "gateway.yaml", "gateway/__pycache__"):
        assert not in_context(other), other


def test_its_environment_is_what_the_settings_take() -> None:
    """The image listens on every address, on the ports that it exposes, and keeps everything in its volume."""
    settings = load(environ=SETTINGS_ENV)
    assert (settings.tcp.host, settings.http.host, str(settings.data_dir)) == ("0.0.0.0", "0.0.0.0", "/data")
    exposed = {settings.tcp.port, settings.tcp.tls_port, settings.http.port}
    assert {int(port) for port in arguments("EXPOSE")[0].split()} == exposed
    assert arguments("VOLUME") == [str(settings.data_dir)]
    assert arguments("STOPSIGNAL") == ["SIGTERM"]


def test_its_user_is_a_number_other_than_root() -> None:
    """Kubernetes' runAsNonRoot wants a number; the volume belongs to it."""
    (user,) = arguments("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert any(f"chown {user} /data" in run for run in arguments("RUN"))


@contextmanager
def contained(
    tmp_path: Path, programs: Path, visible: list[Path], more: Mapping[str, str] = {}
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str], Path]]:
    """Run what the image runs, with its environment and user, on a file system where only the volume can be written.

    Yields the process, the environment and the file with its output. /tmp is not there at all.
    """
    need("bwrap")
    if subprocess.run(["bwrap", "--ro-bind", "/", "/", "--unshare-user", "true"], check=False).returncode:
        pytest.skip("this machine permits no user namespaces")
    data = tmp_path / "volume"
    data.mkdir(exist_ok=True)
    ports = {f"GATEWAY_{name}__PORT": str(free_port()) for name in ("TCP", "HTTP")}
    environment = {**ENV, "PATH": f"{programs}:/usr/bin:/bin", **ports, **more}
    user, group = arguments("USER")[0].split(":")
    root = [each for each in sorted(Path("/").iterdir()) if each.name not in ("dev", "proc", "tmp", "data")]
    sandbox = ["bwrap", "--die-with-parent", "--unshare-user", "--uid", user, "--gid", group]
    sandbox += [word for each in [*root, *visible] for word in ("--ro-bind", str(each), str(each))]
    sandbox += ["--proc", "/proc", "--dev", "/dev", "--dir", "/work-dir", "--bind", str(data), "/data"]
    sandbox += ["--remount-ro", "/", "--chdir", "/work-dir", "--clearenv"]
    sandbox += [word for name, value in environment.items() for word in ("--setenv", name, value)]
    output = tmp_path / "output.txt"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*sandbox, "--", *command("ENTRYPOINT"), *command("CMD")], stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 30
        while "Ctrl-C stops" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        yield process, environment, output
    finally:
        process.kill()  # and with it what it holds
        process.wait()


def use(process: subprocess.Popen[bytes], environment: Mapping[str, str], output: Path) -> None:
    """Send events as the output says, find them, and stop the gateway as an engine does."""
    (line,) = re.findall(r"^ +(curl .*)$", output.read_text(), re.MULTILINE)
    body, url = shlex.split(line)[-2:]
    assert url == f"http://127.0.0.1:{environment['GATEWAY_HTTP__PORT']}/v1/events"
    with httpx.Client(base_url=url.removesuffix("/v1/events"), trust_env=False) as client:
        assert client.post(url, content=body).json()["accepted"] == 1
        assert client.post(url, content="\n".join([body] * 2000)).json()["accepted"] == 2000
        assert client.post(url, content="{").status_code == 400
        deadline = time.monotonic() + 20
        while (found := client.get("/v1/search").json()).get("total") != 2001:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        assert client.get("/status").json()["books"]["dead_letters"] == 1
    os.kill(tree(process.pid)[-1], signal.SIGTERM)
    assert process.wait(20) == 0, output.read_text()


@pytest.mark.process
def test_it_runs_as_another_user_on_a_read_only_file_system(tmp_path: Path) -> None:
    """Events are taken, refused, stored and found with /data alone to write to; the start warns once of open doors."""
    programs = Path(sys.executable).parent
    with contained(tmp_path, programs, [ROOT]) as (process, environment, output):
        use(process, environment, output)
        printed = output.read_text()
        assert printed.count("TCP listens on 0.0.0.0 without TLS") == 1
        assert printed.count("HTTP listens on 0.0.0.0 without both key and TLS") == 1
        assert re.search(r"nc -w 1 127\.0\.0\.1 \d+", printed)
    assert {"state.sqlite3", "store.duckdb", "spool", "lock"} <= {each.name for each in (tmp_path / "volume").iterdir()}


def healthy(environment: Mapping[str, str], folder: Path) -> bool:
    """Carry out the HEALTHCHECK."""
    words = command("HEALTHCHECK")
    assert words[0] == "python"
    path = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env={**environment, **path}, capture_output=True, check=False
    )
    assert ended.returncode in (0, 1)
    return ended.returncode == 0


@pytest.mark.process
@pytest.mark.parametrize("secured", [False, True])
def test_the_health_check(tmp_path: Path, secured: bool) -> None:
    """It succeeds while the gateway runs, also with TLS and keys, and fails when it does not."""
    settings: dict[str, Any] = {}
    if secured:
        certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
        server = trustme.CA().issue_cert("gateway.example")
        server.private_key_pem.write_to_path(str(key))
        for blob in server.cert_chain_pems:
            blob.write_to_path(str(certificate), append=True)
        settings = {"http": {"tls": {"certificate": str(certificate), "key": str(key)}, "api_keys": ["a-secret"]}}
    gateway = Gateway(tmp_path, env={**SETTINGS_ENV, "GATEWAY_DATA_DIR": "data"}, config=settings)
    environment = {**ENV, **gateway.env}
    try:
        assert not healthy(environment, tmp_path)
        gateway.start()
        deadline = time.monotonic() + 30
        while not healthy(environment, tmp_path):
            assert time.monotonic() < deadline, gateway.output_tail()
        gateway.stop()
        assert not healthy(environment, tmp_path)
    finally:
        gateway.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_it_runs_installs_a_gateway(tmp_path: Path) -> None:
    """From nothing but what is copied, the build's commands make a gateway that runs without this working copy."""
    build = INSTRUCTIONS[: len(INSTRUCTIONS) - len(LAST_STAGE)]
    (workdir,) = arguments("WORKDIR", build)
    source, prefix = tmp_path / workdir.lstrip("/"), tmp_path / PREFIX.lstrip("/")
    source.mkdir(parents=True)
    for rest in arguments("COPY", build):
        *names, into = rest.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / into)
    tools = tmp_path / "tools"  # the image's own Python and pip
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    environment = {**os.environ, "PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
    for run in arguments("RUN", build):
        subprocess.run(run.replace(PREFIX, str(prefix)), shell=True, cwd=source, env=environment, check=True)  # noqa: S602
    assert [rest.split()[1:] for rest in arguments("COPY")] == [[PREFIX, PREFIX]]
    assert ENV["PATH"].startswith(f"{PREFIX}/bin:")
    with contained(tmp_path, prefix / "bin", [prefix]) as running:
        use(*running)


GATEWAY = COMPOSE["services"]["gateway"]


def test_compose_environment_is_what_the_settings_take() -> None:
    """The compose file's environment, upon the image's, leads to its Elasticsearch."""
    settings = load(environ={**SETTINGS_ENV, **GATEWAY["environment"]})
    (url,) = settings.elasticsearch.urls
    host, _, port = url.removeprefix("http://").partition(":")
    assert f"127.0.0.1:{port}:{port}" in COMPOSE["services"][host]["ports"]
    assert "depends_on" not in GATEWAY
    secs = int(GATEWAY["stop_grace_period"].removesuffix("s"))
    assert secs > settings.drain_timeout_secs + 5  # for open requests and the last syncs


def test_compose_shows_nothing_to_the_network() -> None:
    """Every port is bound to this machine alone; the gateway's are those of the image."""
    for service in COMPOSE["services"].values():
        for port in service["ports"]:
            host, outside, inside = port.split(":")
            assert (host, outside) == ("127.0.0.1", inside)
    exposed = arguments("EXPOSE")[0].split()
    assert {port.split(":")[2] for port in GATEWAY["ports"]} <= set(exposed)


def test_compose_gives_the_gateway_no_more_than_it_needs() -> None:
    """Read-only but for the volume, without capabilities."""
    assert GATEWAY["read_only"] is True
    assert GATEWAY["cap_drop"] == ["ALL"]
    assert GATEWAY["security_opt"] == ["no-new-privileges:true"]
    assert GATEWAY["volumes"] == [f"gateway-data:{arguments('VOLUME')[0]}"]


def test_compose_hangs_together() -> None:
    """Images are pinned, Kibana to Elasticsearch's version; volumes are declared; what is waited for has a check."""
    services = COMPOSE["services"]
    versions = {
        re.fullmatch(r"(elasticsearch|kibana):(\d+\.\d+\.\d+)", service["image"])[2]  # type: ignore[index]
        for service in services.values()
        if "image" in service
    }
    assert len(versions) == 1
    used = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert used == set(COMPOSE["volumes"])
    for service in services.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert services[name]["healthcheck"]["test"][0] == "CMD"
