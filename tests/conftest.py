"""What tests of every room share: a real Elasticsearch, the gateway as a process, free ports."""

import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import httpx
import hypothesis
import pytest
from blockbuster import BlockBuster

from tests.elasticsearch_node.client import EsClient, new_prefix
from tests.elasticsearch_node.cluster import ElasticsearchCluster
from tests.elasticsearch_node.node import NEXT_VERSION, ElasticsearchNode, NodeError
from tests.elasticsearch_node.ports import free_port as find_free_port
from tests.gateway_process import GatewayFactory

ELASTICSEARCH_FIXTURES = {"elasticsearch_url", "es", "elasticsearch_node", "elasticsearch_cluster", "next_es"}
WAITING = Path(__file__).parent / "sinks" / "elasticsearch"
PROCESS_FIXTURES = {"gateway"}
BROWSER = Path(__file__).parent / "browser"
TESTS = str(Path(__file__).parent) + os.sep
GATEWAY = str(Path(__file__).parents[1] / "gateway") + os.sep
_why_skipped = pytest.StashKey[str]()
# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("without a deadline", deadline=None)
hypothesis.settings.load_profile("without a deadline")


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use, so that none can forget to."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if WAITING in item.path.parents:
            item.add_marker("waits")
        if BROWSER in item.path.parents:
            item.add_marker("slow")
            item.add_marker(pytest.mark.timeout(120))
        if fixtures & PROCESS_FIXTURES:
            item.add_marker("process")
        if fixtures & ELASTICSEARCH_FIXTURES:
            item.add_marker("elasticsearch")
            # A test's time limit is for the test: the first one also waits for the download of the node,
            # which has a limit of its own.
            limit = item.get_closest_marker("timeout")
            args, kwargs = (limit.args, limit.kwargs) if limit else ((), {})
            item.add_marker(pytest.mark.timeout(*args, **{**kwargs, "func_only": True}), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say at the end, in red, that Elasticsearch was not there and why."""
    if reason := config.stash.get(_why_skipped, None):
        terminalreporter.section("the tests that need Elasticsearch were SKIPPED", sep="=", red=True)
        terminalreporter.line(reason)


def _start(node: ElasticsearchNode | ElasticsearchCluster, config: pytest.Config) -> None:
    """Start a node or a cluster; where it cannot be had, fail in CI and skip elsewhere."""
    try:
        node.start()
    except NodeError as error:
        reason = f"Elasticsearch could not be started: {error}"
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    config.stash[_why_skipped] = reason
    pytest.skip(reason.splitlines()[0])


@pytest.fixture(scope="session")
def elasticsearch_url(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[str]:
    """The address of an Elasticsearch for the whole session: ELASTICSEARCH_URL's, else a node of its own."""
    if given := os.environ.get("ELASTICSEARCH_URL", "").split(",")[0].strip():
        try:
            httpx.get(given, timeout=10, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            reason = f"ELASTICSEARCH_URL is set, but that server does not answer: {error}"
        else:
            reason = ""
        if reason:
            pytest.fail(reason, pytrace=False)
        yield given.rstrip("/")
        return
    node = ElasticsearchNode(tmp_path_factory.mktemp("elasticsearch") / "data")
    _start(node, pytestconfig)
    yield node.url
    node.stop()
    shutil.rmtree(node.data)


@pytest.fixture
def elasticsearch_node(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[ElasticsearchNode]:
    """A started node for one test alone, which may stop, kill and start it, and have snapshots below `tmp_path`."""
    node = ElasticsearchNode(tmp_path / "elasticsearch" / "data", heap="512m", settings={"path.repo": str(tmp_path)})
    _start(node, pytestconfig)
    yield node
    node.stop()
    shutil.rmtree(node.data)


@pytest.fixture
def elasticsearch_cluster(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[ElasticsearchCluster]:
    """Three nodes for one test alone, which may kill each and start it again."""
    cluster = ElasticsearchCluster(tmp_path / "elasticsearch")
    _start(cluster, pytestconfig)
    yield cluster
    cluster.stop()
    shutil.rmtree(tmp_path / "elasticsearch")


@pytest.fixture
def next_es(tmp_path: Path, pytestconfig: pytest.Config, index_prefix: str) -> Iterator[EsClient]:
    """An Elasticsearch of the next major version, for one test alone."""
    node = ElasticsearchNode(tmp_path / "elasticsearch" / "data", version=NEXT_VERSION, heap="512m")
    _start(node, pytestconfig)
    client = EsClient(node.url, index_prefix)
    yield client
    client.close()
    node.stop()
    shutil.rmtree(node.data)


@pytest.fixture
def index_prefix() -> str:
    """A prefix for index names that no other test has."""
    return new_prefix()


@pytest.fixture
def es(request: pytest.FixtureRequest, elasticsearch_url: str, index_prefix: str) -> Iterator[EsClient]:
    """The session's Elasticsearch; what bears the test's prefix is deleted afterwards."""
    assert request.node.get_closest_marker("elasticsearch"), "asked for by name: mark the test `elasticsearch`"
    client = EsClient(elasticsearch_url, index_prefix)
    yield client
    try:
        client.clean()
    finally:
        client.close()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that returns a free port of 127.0.0.1, never the same one twice."""
    return find_free_port


@pytest.fixture
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GatewayFactory]:
    """A function that starts gateways as processes; all of them are ended with the test."""
    for name in ("es", "elasticsearch_node", "elasticsearch_cluster", "next_es"):
        if name in request.fixturenames:  # set up before, so that it goes after the gateways that write to it
            request.getfixturevalue(name)
    factory = GatewayFactory(tmp_path)
    yield factory
    factory.close()


@pytest.fixture(scope="session", autouse=True)
def _nothing_blocks_the_event_loop() -> Iterator[None]:
    """Where the gateway waits for disk, a lock or a program on the event loop, which holds up everybody, it fails."""
    buster = BlockBuster("gateway")
    for function in buster.functions.values():
        function.can_block_predicate = partial(_may_block, function.can_block_predicate)
    # At the stop a thread ends that has nothing left to do; at the start of a sink the head of one record is read.
    buster.functions["threading.Lock.acquire"].can_block_in("gateway/spool/spool.py", "stop")
    buster.functions["io.BufferedReader.read"].can_block_in("gateway/spool/spool.py", "_mark_oldest")
    # A mistake of ours is told with its source lines.
    buster.functions["os.stat"].can_block_in("rich/traceback.py", "_render_stack")
    buster.activate()
    yield
    buster.deactivate()


def _may_block(known: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
    """Whether it is a test itself that calls something that blocks, such as the opening of files before the start."""
    if known(*args, **kwargs):
        return True
    called: CodeType | None = None
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(GATEWAY):
            called = code
        elif code.co_filename.startswith(TESTS) and code.co_filename != __file__:
            return called is None or not called.co_flags & inspect.CO_COROUTINE
        frame = frame.f_back
    return False


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the gateway does."""
    return "asyncio"
