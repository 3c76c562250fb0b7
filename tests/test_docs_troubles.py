"""docs/troubleshooting.md shows what is really said: each trouble in it is caused, and its sentences are heard."""

import asyncio
import json
import re
import resource
import socket
import sqlite3
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.documents import DOCS, Document
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import Gateway, GatewayFactory
from tests.misbehaving_proxy import MisbehavingProxy, page, refuse_items
from tests.misbehaving_proxy import status as proxys
from tests.programs import need
from tests.sinks.elasticsearch.odd_server import OddServer, Reply, status

pytestmark = pytest.mark.process
TEXT = Document(DOCS / "troubleshooting.md")
EVENT = b'{"model_name":"m"}'
NOWHERE = {"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"}


def sentences(heading: str) -> list[str]:
    """Return the sentences that the document shows below a heading."""
    section = re.split(r"^#+ ", TEXT.text.partition(f"### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return [line for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]


def check(heading: str, said: str) -> None:
    """Assert that all sentences below a heading were said; a log's quotes may be escaped."""
    shown = sentences(heading)
    assert shown, f"there are no sentences below {heading!r}"
    for sentence in shown:
        pattern = ".*".join(map(re.escape, sentence.split("…")))
        assert re.search(pattern, said.replace('\\"', '"')), f"{heading}: nobody says {sentence!r} but\n{said}"


def heard(running: Gateway, text: str, timeout: float = 15) -> str:
    """Return the gateway's output once it holds a text."""
    running.wait_output(text, timeout)
    return running.output()


def post(running: Gateway, body: bytes = EVENT, path: str = "/v1/events", **headers: str) -> str:
    """Send a body, return the answer's text with quotes as they were."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    errors = running.http.post(path, content=body, headers=named).json()["errors"]
    return "\n".join(f"{each['message']} {each.get('hint', '')}" for each in errors)


def curl(*words: str) -> str:
    """Return all that curl prints."""
    need("curl")
    ended = subprocess.run(["curl", "-sS", "-m", "3", *words], capture_output=True, text=True, timeout=20, check=False)
    return ended.stdout + ended.stderr


def ended(running: Gateway) -> str:
    """Return the one sentence of a gateway that does not start."""
    deadline = time.monotonic() + 20
    while running.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert running.exit_code == 1
    (sentence,) = running.output().splitlines()
    return sentence


def test_every_sentence_is_caused() -> None:
    """No heading of the document has sentences that no test here causes."""
    printed = {"See the dead letters"}  # by a command of the document: tests/test_docs.py compares it
    with_sentences = {heading for heading in re.findall(r"^### (.*)$", TEXT.text, re.MULTILINE) if sentences(heading)}
    caused = set(re.findall(r'^ +check\(\s*"([^"]+)"', Path(__file__).read_text(encoding="utf-8"), re.MULTILINE))
    assert with_sentences - printed == caused


def test_the_wrong_port(gateway: GatewayFactory) -> None:
    """Nobody there, HTTP, TLS and lines on the wrong port."""
    check("Connection refused", curl(f"http://127.0.0.1:{free_port()}/"))
    running = gateway()
    running.send_tcp(b"POST /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    check("HTTP sent to the TCP port", heard(running, "http.port"))
    with socket.create_connection(("127.0.0.1", running.http_port)) as lines:
        lines.sendall(EVENT + b"\n")
        check("Lines sent to the HTTP port", lines.recv(10_000).decode())
    fresh = gateway()  # the log tells of the same trouble once in ten seconds
    context = ssl.create_default_context()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", fresh.tcp_port), 1) as plain:
        context.wrap_socket(plain, server_hostname="localhost")
    tls = heard(fresh, "tls_port", 10)
    check("TLS sent to a plain port", tls + curl(f"https://127.0.0.1:{fresh.http_port}/"))


def test_https_alone(gateway: GatewayFactory, tmp_path: Path) -> None:
    """HTTP to a port that speaks HTTPS."""
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    running = gateway(config={"http": {"tls": {"certificate": str(pem), "key": str(pem)}}}, ready=False)
    running.wait_output("Ctrl-C stops")
    check("HTTP sent to the HTTPS port", curl(f"http://127.0.0.1:{running.http_port}/ready"))


def test_too_many_connections(gateway: GatewayFactory) -> None:
    """One more than tcp.max_connections."""
    running = gateway(env={"GATEWAY_TCP__MAX_CONNECTIONS": "1"})
    with running.connect_tcp(), running.connect_tcp():
        check("The connection is closed at once", heard(running, "max_connections"))


def test_who_may_call(gateway: GatewayFactory) -> None:
    """No key, a wrong key, another name, another site, nobody's key on the network; and a rate limit."""
    keys = gateway(env={"GATEWAY_HTTP__API_KEYS": "a-secret", "GATEWAY_LIMITS__BYTES_PER_SEC": "10"})
    plain, open_to_all = gateway(), gateway(env={"GATEWAY_HTTP__HOST": "0.0.0.0", "GATEWAY_TCP__ENABLED": "false"})
    check("401", post(keys))
    said = [
        post(keys, authorization="Bearer wrong"),
        post(plain, host="models.example"),
        post(plain, origin="https://elsewhere.example"),
        open_to_all.http.delete("/v1/verify/12345678").text,
    ]
    check("403", "\n".join(said))
    limited = [post(keys, authorization="Bearer a-secret") for _ in range(3)]
    check("429: a rate limit", "\n".join(limited))


def test_bodies_and_events_that_are_refused(gateway: GatewayFactory) -> None:
    """Too large, of a wrong form, of a wrong time, of no kind."""
    running = gateway()
    check("413", post(running, b" " * 11_000_000))
    check(
        "415",
        post(running, content_type="multipart/form-data; boundary=x") + post(running, content_encoding="br"),
    )
    ahead = [(timedelta(hours=2), ""), (timedelta(hours=2), "Z"), (timedelta(minutes=20), "Z")]
    times = [(datetime.now(UTC) + by).strftime("%Y-%m-%dT%H:%M:%S") + zone for by, zone in ahead]
    said = "\n".join(post(running, b'{"model_name":"m","timestamp":"%s"}' % each.encode()) for each in times)
    check("The clock is ahead", said)
    old = b'{"model_name":"m","timestamp":"2001-01-01T00:00:00Z"}'
    ages = [NOWHERE, {**NOWHERE, "GATEWAY_ELASTICSEARCH__RETENTION_DAYS": "7"}]
    check("Too old", post(running, old) + "".join(post(gateway(env=age), old) for age in ages))
    check("Several events run together", post(running, EVENT + EVENT))
    check("No kind fits", post(running, b'{"modelname":"m"}'))


def test_no_room(gateway: GatewayFactory) -> None:
    """A full spool, a disk that is nearly full, a disk that cannot be written."""
    full = gateway(env={**NOWHERE, "GATEWAY_SPOOL__MAX_BYTES": str(4 << 20)})
    full.wait_until(lambda now: "elasticsearch" in now["sinks"])
    large = b'{"model_name":"m","note":"%s"}' % (b"x" * 1_000_000)
    answers = [post(full, large) for _ in range(6)]
    check("429: the spool is full", "\n".join(answers) + heard(full, "The spool is full"))
    full.restart(env={"GATEWAY_STORE__ENABLED": "true", "GATEWAY_ELASTICSEARCH__REQUIRED": "false"})
    check("A sink skips events", heard(full, "it skips events"))
    nearly = gateway(env={"GATEWAY_SPOOL__MIN_FREE_BYTES": str(1 << 60)}, ready=False)
    nearly.wait_output("Ctrl-C stops")
    check("429: the disk is nearly full", post(nearly))
    running = gateway()
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    answer = post(running)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check("503: the spool cannot be written", answer)
    assert (
        "The spool can be written again." in heard(running, "again.")
        and "`The spool can be written again.`" in TEXT.text
    )


def test_it_does_not_start(gateway: GatewayFactory, tmp_path: Path) -> None:
    """The data directory or a port is in use, a file is newer, the directory is none."""
    running = gateway()
    check("Data directory in use", ended(gateway(data_dir=running.data_dir, ready=False)))
    check("Port in use", ended(gateway(env={"GATEWAY_TCP__PORT": str(running.tcp_port)}, ready=False)))
    running.stop()
    with sqlite3.connect(running.data_dir / "state.sqlite3") as state:
        state.execute("PRAGMA user_version=99")
    check("Newer format version", ended(gateway(data_dir=running.data_dir, ready=False)))
    (tmp_path / "a-file").write_text("")
    check("Data directory cannot be written", ended(gateway(data_dir=tmp_path / "a-file", ready=False)))


def test_damage_on_disk(gateway: GatewayFactory) -> None:
    """A write that a crash cut off; bytes that changed; a sink that is gone; dead letters without room."""
    running = gateway(env={**NOWHERE, "GATEWAY_DEAD_LETTERS__MAX_BYTES": "0"})
    for _ in range(3):
        post(running)
    post(running, b"broken")
    check("Dead letters are full", heard(running, "max_bytes"))
    running.kill()
    (segment,) = (running.data_dir / "spool" / "0").iterdir()
    segment.write_bytes(segment.read_bytes() + b"half a record")
    running.restart()
    check("An unfinished write", heard(running, "unfinished"))
    running.stop()
    content = segment.read_bytes()
    at = content.index(b'"model_name"')
    segment.write_bytes(content[:at] + b"XXXX" + content[at + 4 :])
    running.restart(env={"ELASTICSEARCH_URL": ""})
    check("A sink's place is dropped", heard(running, "no longer"))
    check("Damaged bytes", heard(running, "damaged: they"))


def test_damaged_files(gateway: GatewayFactory) -> None:
    """The dead letters' file, the store's, and a file of the spool that somebody deleted."""
    running = gateway(env={"GATEWAY_SPOOL__SEGMENT_BYTES": "65536", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"})
    post(running)
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 1)
    running.stop()
    state, store = running.data_dir / "state.sqlite3", running.data_dir / "store.duckdb"
    state.write_bytes(state.read_bytes()[:4096] + bytes(20_000))
    sound = store.read_bytes()
    store.write_bytes(b"none" * 5000)
    running.restart()
    check("The state is damaged", heard(running, "set aside"))
    status = running.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "retrying")
    check("The embedded store cannot be opened", status["sinks"]["embedded"]["last_error"])
    for _ in range(6):
        post(running, b'{"model_name":"m","note":"%s"}' % (b"x" * 40_000))
    sorted((running.data_dir / "spool" / "0").iterdir())[2].unlink()
    store.rename(store.with_suffix(".damaged"))
    store.write_bytes(sound)
    check("Documents are missing in the spool", heard(running, "are missing", 40))


@pytest.mark.elasticsearch
def test_a_mapping_conflict(gateway: GatewayFactory, es: EsClient) -> None:
    """An object where the day's first event had a string."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    post(running, b'{"model_name":"m","customer":"c-17"}')
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 1)
    post(running, b'{"model_name":"m","customer":{"id":17}}')
    check("An object where a string is mapped", heard(running, "A sink refused"))


@pytest.mark.elasticsearch
@pytest.mark.timeout(180)
def test_troubles_of_elasticsearch(
    request: pytest.FixtureRequest, gateway: GatewayFactory, elasticsearch_node: ElasticsearchNode
) -> None:
    """A blocked index, the shard limit, a read-only cluster, no room to put events aside."""
    es = EsClient(elasticsearch_node.url, "")
    request.addfinalizer(es.close)
    small = {
        "ELASTICSEARCH_URL": es.url,
        "GATEWAY_DEAD_LETTERS__MAX_BYTES": "2000",
        "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1",
    }
    running = gateway(env=small)
    last_errors = []

    def trouble(event: bytes, part: str) -> str:
        post(running, event)
        # Of that very moment: two indices in trouble take turns there.
        seen = running.wait_until(lambda now: part in str(now["sinks"]["elasticsearch"]["last_error"]), timeout=40)
        return str(seen["sinks"]["elasticsearch"]["last_error"])

    post(running)
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 1)
    es.put("/ml-metrics-*/_settings", {"index.blocks.read_only_allow_delete": True})
    last_errors.append(trouble(EVENT, "flood-stage"))
    es.put("/_cluster/settings", {"persistent": {"cluster.max_shards_per_node": 1}})
    last_errors.append(trouble(b'{"check_name":"c"}', "maximum normal shards"))
    es.put("/_cluster/settings", {"persistent": {"cluster.max_shards_per_node": None}})
    check("An index takes no documents", "\n".join(last_errors) + heard(running, "Indices do not"))
    trouble(b'{"model_name":"%s"}' % (b"x" * 3000), "no more room")
    check("The sink stops", heard(running, "no more room"))
    running.restart(env={"GATEWAY_DEAD_LETTERS__MAX_BYTES": "1000000"})  # as it says there

    # One index takes its own again, the large event finds room; Elasticsearch lifts the other block itself in time.
    def goes_on(now: dict[str, Any]) -> bool:
        indexed = int(now["books"]["sinks"]["elasticsearch"]["indexed"])
        return indexed >= 2 and indexed + int(now["sinks"]["elasticsearch"]["parked"]) == 4

    running.wait_until(goes_on, timeout=40)
    running.kill()
    es.put("/_cluster/settings", {"persistent": {"cluster.blocks.read_only": True}})
    running = gateway(env={**small, "GATEWAY_ELASTICSEARCH__MANAGE_TEMPLATES": "false"})
    (_, read_only) = sentences("Elasticsearch answered 403")
    assert trouble(EVENT, "read-only (api)") == read_only
    es.put("/_cluster/settings", {"persistent": {"cluster.blocks.read_only": None}})


@pytest.mark.anyio
@pytest.mark.parametrize("number", [401, 403])
async def test_elasticsearch_says_no(number: int, gateway: GatewayFactory) -> None:
    """The node of the tests has no security: a server that answers as one with security does."""
    async with OddServer() as server:
        reason = {"error": {"type": "security_exception", "reason": "action is unauthorized"}, "status": number}
        server.templates_answer = Reply(json.dumps(reason).encode(), number)
        server.always = status(number)
        running = await asyncio.to_thread(gateway, env={**NOWHERE, "ELASTICSEARCH_URL": server.url})
        await asyncio.to_thread(post, running)
        said = await asyncio.to_thread(heard, running, "not in place")
        await asyncio.to_thread(running.kill)
    read_only = sentences("Elasticsearch answered 403")[1]  # test_troubles_of_elasticsearch
    if number == 401:
        check("Elasticsearch answered 401", said)
    else:
        check("Elasticsearch answered 403", f"{said}\n{read_only}")


def last_error(running: Gateway, sentence: str) -> str:
    """Return the sink's last error once it holds a sentence."""

    def text(now: dict[str, Any]) -> str:
        return now["sinks"]["elasticsearch"]["last_error"] or ""

    return text(running.wait_until(lambda now: sentence in text(now)))


def test_elasticsearch_is_busy(gateway: GatewayFactory, es: EsClient) -> None:
    """429 for items and for the whole, and what a load balancer says."""
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "rejected execution"}}
    said = []
    with MisbehavingProxy(es.url) as through:
        running = gateway(env={**NOWHERE, "ELASTICSEARCH_URL": through.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
        for act, sentence in (
            (refuse_items("items", 1.0, busy), "is busy"),
            (proxys(429, "circuit_breaking_exception", "Data too large"), "circuit_breaking_exception"),
            (page(502), "What stands before"),
        ):
            through.misbehave(act)
            post(running)
            said.append(last_error(running, sentence))
        running.kill()
    check("Elasticsearch is busy", "\n".join(said))


def test_no_elasticsearch(gateway: GatewayFactory) -> None:
    """Nobody listens at the address, or somebody else does."""
    nobody = gateway(env={**NOWHERE, "ELASTICSEARCH_URL": f"http://127.0.0.1:{free_port()}"})
    post(nobody)
    other = gateway(env={**NOWHERE, "ELASTICSEARCH_URL": gateway().url})
    post(other)
    said = heard(nobody, "cannot be reached") + heard(other, "is not Elasticsearch")
    check("Elasticsearch cannot be reached", said)
