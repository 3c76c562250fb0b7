"""Every command of every document in docs/ is run; every example is one that the gateway takes."""

import configparser
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from gateway.configuration import load
from gateway.operations.preflight import check_settings
from gateway.settings import Settings
from tests.documents import COMMANDS, DOCS, Block, Document, all_arrived, code, run, same, with_ports
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, Gateway, GatewayFactory
from tests.programs import need

OURS = [DOCS / f"{name}.md" for name in ("settings", "events", "api", "client", "operating", "troubleshooting")]
# Commands that cannot be run by a test, and why.
NOT_RUN = {
    "systemctl": "it is about the machine's own services",
    "docker": "an image cannot be built here",
}
# What shows in the store or in the books a moment after it was taken.
LOOKS = re.compile(r"/v1/(search|aggregate|export)|/status|/metrics|dead-letters")
PROMETHEUS = "yaml prometheus"
FILES = {"elasticsearch.yml", "store.duckdb"}
HARMS = re.compile(r"\b(rm|mv|cp|dd|tar|docker run|systemctl|DELETE)\b")
documents = pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
pages = pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)


def not_run(block: Block) -> str | None:
    """Return why a block of commands is left out."""
    first = block.text.split()
    return next((why for word, why in NOT_RUN.items() if word in first), None)


def test_every_document_is_covered() -> None:
    """A new document in docs/ is run here, or by a test of its own, which names it."""
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    for path in set(DOCS.glob("*.md")) - set(OURS):
        assert any(f'"{path.name}"' in text for text in tests), f"no test runs the commands of {path.name}"


def is_setting(steps: list[str]) -> bool:
    """Whether a dotted name is a field of the settings, or of what lies in one."""
    model: Any = Settings
    for step in steps:
        options = [model, *get_args(model)]
        model = next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if model is None or step not in model.model_fields:
            return False
        model = model.model_fields[step].annotation
    return True


def anchors(file: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", Document(file).prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def put_files(document: Document, folder: Path) -> None:
    """Save the files that a document shows in blocks `python FILE`."""
    for block in document.blocks():
        if block.kind.startswith("python "):
            (folder / block.kind.removeprefix("python ")).write_text(block.text)


class Reader:
    """Somebody who follows a document from top to bottom, with the gateways that it speaks of."""

    def __init__(self, document: Document, start: GatewayFactory) -> None:
        self._document = document
        self._start = start
        self._gateways = {"": start()}

    def gateway(self, name: str) -> Gateway:
        """Return the gateway of ``make run``, or one with the settings of the document's block `yaml NAME`."""
        if name not in self._gateways:
            (settings,) = self._document.blocks(f"yaml {name}")
            running = self._start(config=settings.text, start=False, env={"GATEWAY_TCP__TLS_PORT": str(free_port())})
            for file in self._gateways[""].folder.glob("*.pem"):
                shutil.copy(file, running.folder)
            put_files(self._document, running.folder)
            running.http.headers["authorization"] = "Bearer a-secret"
            running.start()
            running.wait_output("Ctrl-C stops")
            self._gateways[name] = running
        return self._gateways[name]

    def follow(self, block: Block, shown: Block | None) -> None:
        """Run a block and compare what it prints with what the document shows."""
        _, *words = block.kind.split()
        running = self.gateway(next((word for word in words if word != "fails"), ""))
        if LOOKS.search(block.text):
            running.wait_until(all_arrived)
        said = run(block.text, running, fails="fails" in words)
        if shown is not None:
            assert same(with_ports(shown.text, running), said), f"line {block.line}: {block.text}\nprints\n{said}"


@documents
@pytest.mark.process
@pytest.mark.timeout(180)
def test_commands_print_what_the_document_shows(path: Path, gateway: GatewayFactory) -> None:
    """Pasted one after the other into a terminal, each command does what the document says."""
    need("curl", "nc")
    document = Document(path)
    if steps := [(block, shown) for block, shown in document.steps() if not not_run(block)]:
        reader = Reader(document, gateway)
        for block, shown in steps:
            reader.follow(block, shown)


@documents
@pytest.mark.process
def test_programs_run(path: Path, gateway: GatewayFactory) -> None:
    """Each Python program of a document stores at least one event."""
    programs = Document(path).blocks("python")
    if not programs:
        return
    running = gateway()
    for program in programs:
        before: int = running.status()["books"]["accepted"]
        subprocess.run([sys.executable, "-c", with_ports(program.text, running)], check=True, timeout=30)
        running.wait_until(lambda now: now["books"]["accepted"] > before)  # noqa: B023 - waited for at once


@pytest.mark.process
def test_an_exception_that_is_logged_as_shown_is_an_error(gateway: GatewayFactory) -> None:
    """What events.md says of `error_message` in `extra` holds, and so does what it says of an exception without."""
    (program,) = (each for each in Document(DOCS / "events.md").blocks("python") if "log.exception" in each.text)
    shown = ', "error_message": str(error)'
    assert shown in program.text
    for text, expected in (
        (program.text, (True, "timeout")),
        (program.text.replace(shown, ""), (None, "TimeoutError")),
    ):
        running = gateway()
        subprocess.run([sys.executable, "-c", with_ports(text, running)], check=True, timeout=30)
        running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2)
        found = running.http.get("/v1/search", params={"where": "level:ERROR"}).json()
        (document,) = (hit["_source"] for hit in found["hits"])
        assert (document.get("error"), document["error_type"]) == expected
        assert "stack_trace" in document


@documents
def test_settings_are_sound(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each settings file of a document is accepted, as by `gateway check`; no block is of an unknown kind."""
    document = Document(path)
    monkeypatch.chdir(tmp_path)
    put_files(document, tmp_path)
    for block in document.blocks():
        what, *_ = block.kind.split() or [""]
        assert what in (COMMANDS, "text", "json", "python", "ini", "yaml"), f"{path.name}, line {block.line}"
        if what == "yaml" and block.kind != PROMETHEUS:
            Path("gateway.yaml").write_text(block.text)
            settings = load(environ={})
            if settings.http.tls is None and settings.tcp.tls is None:  # else its gateway is started
                assert check_settings(settings) == [], block.text


def test_what_others_read() -> None:
    """The files for systemd and Prometheus can be read, and fit the gateway."""
    operating = Document(DOCS / "operating.md")
    (unit,) = operating.blocks("ini")
    service = configparser.ConfigParser(strict=False)
    service.optionxform = str  # type: ignore[assignment,method-assign]
    service.read_string(unit.text)
    for name in ("ExecStartPre", "ExecStart"):
        assert service["Service"][name].rpartition("gateway ")[2] in ("check", "serve")
    assert int(service["Service"]["TimeoutStopSec"]) > Settings().drain_timeout_secs + 20
    metrics = {code(name)[0] for name, *_ in Document(DOCS / "api.md").table("## GET /metrics")}
    scraping, rules = map(yaml.safe_load, (block.text for block in operating.blocks(PROMETHEUS)))
    assert scraping["scrape_configs"][0]["job_name"] in str(rules)
    (group,) = rules["groups"]
    for rule in group["rules"]:
        named = re.findall(r"(?:gateway|ml)_\w+", rule["expr"])
        assert {name.removesuffix("_bucket") for name in named} <= metrics, rule


@pages
def test_no_harm_after_a_command_that_failed(path: Path) -> None:
    """A terminal goes on after a command that fails: what deletes, moves or starts waits for it with `&&`."""
    for block in Document(path).blocks():
        if block.kind.startswith(COMMANDS):
            for line, following in pairwise(block.text.splitlines()):
                assert not HARMS.search(following) or line.endswith("&&"), f"{path.name}, line {block.line}: {line}"


@pages
def test_names_in_the_text_exist(path: Path) -> None:
    """Each setting, metric, file and heading that a document names is there."""
    document = Document(path)
    sections = set(Settings.model_fields) - {"data_dir", "decoder", "drain_timeout_secs"}
    others = {name for row in Document(DOCS / "api.md").table("## GET /status") for name in code(row[0])} | FILES
    for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: [^`]*)?`", document.prose):
        if name.split(".")[0] in sections and name not in others:
            assert is_setting(name.split(".")), f"{path.name}: {name} is not a setting"
    for link in re.findall(r"\]\(([^)]+)\)", document.prose):
        target, _, heading = link.partition("#")
        if target.startswith("http"):
            continue
        file = path.parent / target if target else path
        assert file.exists(), f"{path.name} links to {link}"
        assert not heading or heading in anchors(file), f"{path.name} links to {link}"
