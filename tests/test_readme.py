"""Every command of the README is run, as it stands there but for the ports."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from gateway.configuration import load
from tests.documents import Document, all_arrived, run
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import ROOT, GatewayFactory
from tests.programs import need

README = Document(ROOT / "README.md")
COMMANDS = README.lines_of_commands()
EVENT_COMMANDS = [command for command in COMMANDS if command.startswith(("curl", "echo", "gateway"))]
DOCKER_COMMANDS = [command for command in COMMANDS if command.startswith("docker")]  # tests/test_container.py
MAKE_COMMANDS = [command for command in COMMANDS if command.startswith("make ")]
OTHER = {"ELASTICSEARCH_URL=http://127.0.0.1:9200 gateway serve"}


def test_no_command_is_left_out() -> None:
    """Each command of the README is one that a test here runs."""
    assert set(COMMANDS) == {*EVENT_COMMANDS, *DOCKER_COMMANDS, *MAKE_COMMANDS, *OTHER}
    assert len(EVENT_COMMANDS) >= 4


def test_the_commands_that_send_and_look(gateway: GatewayFactory) -> None:
    """Pasted one after the other into a terminal, each does what the README says."""
    need("curl", "nc")
    running = gateway()
    (running.folder / "events.ndjson").write_bytes(b'{"model_name":"a"}\n{"model_name":"b"}\n')
    printed = []
    for command in EVENT_COMMANDS:
        if "/v1/" in command:
            running.wait_until(all_arrived)
        printed.append(run(command, running))
    assert json.loads(printed[0]) == {"accepted": 1, "rejected": 0, "errors": []}
    (hit,) = json.loads(printed[1])["hits"]
    assert hit["_source"]["confidence_level"] == "high"
    assert hit["_source"]["latency_category"] == "fast"
    books = running.wait_until(all_arrived)["books"]
    assert books["accepted"] >= 1 + 1 + 2 + 1000
    assert books["refused"] == 0


def test_the_command_that_names_an_elasticsearch(gateway: GatewayFactory, es: EsClient) -> None:
    """With ELASTICSEARCH_URL the event goes there."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    running.http.post("/v1/events", content=b'{"model_name":"m"}').raise_for_status()
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 1)
    assert es.count() == 1


@pytest.mark.parametrize("command", MAKE_COMMANDS)
@pytest.mark.process
def test_the_makefile_has_the_word(command: str) -> None:
    """`make` knows each word that the README names."""
    ended = subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_client_example_sends(gateway: GatewayFactory) -> None:
    """Pasted into Python it stores its events, and each is acknowledged before it ends."""
    running = gateway()
    program, *_ = README.blocks("python")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    text = program.text.replace("Client()", f"Client(port={running.tcp_port})")
    ended = subprocess.run(
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=30, check=True
    )
    assert (ended.stdout, ended.stderr) == ("", "")
    assert running.status()["books"]["accepted"] == 10


def test_the_settings_example_is_sound(tmp_path: Path) -> None:
    """The README's gateway.yaml is accepted."""
    (example,) = README.blocks("yaml")
    file = tmp_path / "gateway.yaml"
    file.write_text(example.text)
    settings = load(file, environ={})
    assert settings.events.naive_timezone == yaml.safe_load(example.text)["events"]["naive_timezone"]
    assert settings.enrichment.models["image_classifier"].confidence.high == 0.95
    assert settings.enrichment.models["image_classifier"].latency.fast == 20


def test_the_enricher_example_works_with_one_file_and_two_lines(tmp_path: Path) -> None:
    """The README's fifth enricher, added as it says, adds its field to a stored document."""
    _, example, lines = README.blocks("python")
    first, _, code = example.text.partition("\n")
    name = first.removeprefix("# ")
    copy = tmp_path / "copy"
    for package in ("gateway", "enrichers", "schemas"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / name).write_text(code)
    listing = copy / "enrichers" / "__init__.py"
    text = listing.read_text()
    imported, named = lines.text.split("\n\n")
    changed = re.sub(r"^ENRICHERS: .*\n", named, text, flags=re.MULTILINE)
    assert changed != text
    listing.write_text(changed.replace("from enrichers.latency", f"{imported}\nfrom enrichers.latency"))
    check = (
        "from gateway.pipeline.configured import make_digest;"
        "from gateway.settings import Settings; from schemas import BUILT_IN;"
        "from gateway.pipeline.block import Block; import time;"
        "block = Block('tcp', 'p', [b'{\"model_name\":\"m\",\"cpu_usage\":93}']);"
        "work = make_digest(Settings(), BUILT_IN).block(block, time.time());"
        "work.step(); print(bytes(work.draft().documents[0].data).decode())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", check],
        cwd=copy,
        env={"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(ended.stdout.splitlines()[1])
    assert document["load_category"] == "busy"


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Iterator[Path]:
    """What is committed, and nothing else."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    yield clone
    shutil.rmtree(clone)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_make_run_from_a_fresh_clone(fresh_clone: Path) -> None:
    """`make run` installs what it needs and serves; the line that it prints stores an event."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY", "MAKE", "VIRTUAL"))
    }
    environment |= {"GATEWAY_TCP__PORT": "0", "GATEWAY_HTTP__PORT": "0"}
    with (fresh_clone / "printed.txt").open("w+") as printed:
        process = subprocess.Popen(
            ["make", "run"], cwd=fresh_clone, env=environment, stdout=printed, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while "Ctrl-C stops" not in (text := (fresh_clone / "printed.txt").read_text()):
                assert process.poll() is None, text
                assert time.monotonic() < deadline, text
                time.sleep(0.2)
            (line,) = re.findall(r"^ +(curl .*)$", text, re.MULTILINE)
            answer = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=20)
            assert json.loads(answer.stdout) == {"accepted": 1, "rejected": 0, "errors": []}
            url = re.findall(r"Then look at (http://[^/]+)/", text)[0]
            while (found := httpx.get(f"{url}/v1/search", trust_env=False).json())["total"] != 1:
                assert time.monotonic() < deadline, found
                time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
