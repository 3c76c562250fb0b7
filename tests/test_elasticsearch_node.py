"""The Elasticsearch that the tests start themselves keeps the promises that they build on."""

import httpx
import pytest

from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import VERSION, ElasticsearchNode, NodeError
from tests.elasticsearch_node.ports import free_port


def test_answers_with_its_version(elasticsearch_node: ElasticsearchNode) -> None:
    """A started node says at its address which version it is."""
    answer = httpx.get(elasticsearch_node.url, trust_env=False).json()
    assert answer["version"]["number"] == VERSION


def test_finds_what_it_stored(es: EsClient) -> None:
    """A document is found by a search at once, and not by one that asks for something else."""
    index = f"{es.prefix}events"
    es.put(f"/{index}/_doc/1?op_type=create", {"model_name": "fraud", "inference_time_ms": 25})
    found = es.search(index, {"query": {"match": {"model_name": "fraud"}}})
    assert [hit["_id"] for hit in found["hits"]["hits"]] == ["1"]
    assert es.search(index, {"query": {"match": {"model_name": "churn"}}})["hits"]["total"]["value"] == 0
    assert es.count() == 1


def test_cleans_up_after_a_test(es: EsClient) -> None:
    """Cleaning removes the indices and templates with the test's prefix, and no others."""
    other = EsClient(es.url, f"other-{es.prefix}")
    try:
        for client in (es, other):
            pattern = {"index_patterns": [f"{client.prefix}*"], "composed_of": [f"{client.prefix}part"]}
            client.put(f"/_component_template/{client.prefix}part", {"template": {}})
            client.put(f"/_index_template/{client.prefix}whole", pattern)
            client.post(f"/{client.prefix}events/_doc", {"message": "hello"})
        es.clean()
        assert es.indices() == []
        assert es.http.get(f"/_index_template/{es.prefix}whole").status_code == 404
        assert es.http.get(f"/_component_template/{es.prefix}part").status_code == 404
        assert es.count() == 0
        assert other.count() == 1
        assert other.get(f"/_index_template/{other.prefix}whole")
    finally:
        other.clean()
        other.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_keeps_its_data_when_stopped_and_when_killed(elasticsearch_node: ElasticsearchNode) -> None:
    """Documents are still there, at the same address, after stop and start and after kill and start."""
    node = elasticsearch_node
    url = node.url
    client = EsClient(url, "kept-")
    try:
        for documents, end in enumerate((node.stop, node.kill), start=1):
            client.post("/kept-events/_doc", {"number": documents})
            end()
            assert not node.running
            with pytest.raises(httpx.TransportError):
                client.get("/")
            node.start()
            assert node.url == url
            assert client.count() == documents
    finally:
        client.close()


def test_says_why_it_did_not_start(elasticsearch_node: ElasticsearchNode) -> None:
    """The error of a node that does not start shows what the node logged, and the node is gone."""
    second = ElasticsearchNode(
        elasticsearch_node.data.with_name("second"), heap="256m", settings={"no.such.setting": "1"}
    )
    with pytest.raises(NodeError, match=r"exit status[\s\S]*no\.such\.setting"):
        second.start()
    assert not second.running


def test_refuses_a_port_that_is_taken(elasticsearch_node: ElasticsearchNode) -> None:
    """A node does not mistake another server at its port for itself."""
    second = ElasticsearchNode(elasticsearch_node.data.with_name("second"), port=elasticsearch_node.port)
    with pytest.raises(NodeError, match="already in use"):
        second.start()
    assert elasticsearch_node.running


def test_ports_are_handed_out_once() -> None:
    """No two callers get the same port."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
