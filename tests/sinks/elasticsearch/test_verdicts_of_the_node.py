"""The verdicts, as the real Elasticsearch provokes them."""

import json
from typing import Any

import pytest

from gateway.sinks.elasticsearch.verdicts import Ruling, Verdict, rule, speaks_of_the_index
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode

PROPERTIES = {
    "k": {"type": "keyword"},
    "t": {"type": "text"},
    "d": {"type": "date"},
    "n": {"type": "double"},
    "b": {"type": "boolean"},
    "o": {"type": "object"},
    "nested": {"type": "nested"},
}
AT_FAULT = {
    "an object where a keyword is mapped": b'{"k":{"a":1}}',
    "an object where a text is mapped": b'{"t":{"a":1}}',
    "an object where a number is mapped": b'{"n":{"a":1}}',
    "a text where an object is mapped": b'{"o":"a"}',
    "a number where a nested object is mapped": b'{"nested":1}',
    "a malformed date": b'{"d":"yesterday"}',
    "a malformed number": b'{"n":"a lot"}',
    "a malformed boolean": b'{"b":"perhaps"}',
    "an infinite number": b'{"n":1e999}',
    "an immense term": b'{"k":"%s"}' % (b"x" * 40_000),
    "an empty field name": b'{"":1}',
    "an empty field name inside": b'{"fresh":{"":1}}',
    "a field name of dots": b'{"...":1}',
    "a blank field name": b'{" ":1}',
    "a field of Elasticsearch's own": b'{"_id":"a"}',
    "too many levels": b'{"deep":' + b'{"a":' * 25 + b"1" + b"}" * 26,
    "too many brackets": b'{"deep":' + b"[" * 1100 + b"1" + b"]" * 1100 + b"}",
    "a field that is a value and an object": b'{"r":1,"r.s":2}',
    "no object": b"[1]",
    "a cut object": b'{"k":',
    "no UTF-8": b'{"k":"\xff"}',
}


def create(es: EsClient, index: str, *sources: bytes, name: str | None = None) -> list[Ruling]:
    """Return the rulings on documents that are created."""
    action = {"_index": index} if name is None else {"_index": index, "_id": name}
    lines = b"".join(json.dumps({"create": action}).encode() + b"\n" + source + b"\n" for source in sources)
    return [rule(item["create"]) for item in es.post("/_bulk", lines)["items"]]


@pytest.fixture
def index(es: EsClient) -> str:
    """An index with a mapping, that refuses what is malformed."""
    es.put(f"/{es.prefix}mapped", {"mappings": {"properties": PROPERTIES}})
    return f"{es.prefix}mapped"


def made(es: EsClient, mappings: dict[str, Any] | None = None, **settings: Any) -> str:
    """Make another index."""
    index = f"{es.prefix}other"
    es.put(f"/{index}", {"settings": settings, "mappings": mappings or {}})
    return index


def test_created_and_there_already(es: EsClient, index: str) -> None:
    """The first of two documents with one id is indexed, the second is a duplicate."""
    verdicts = [create(es, index, b'{"k":"a"}', name="1")[0].verdict for _ in range(2)]
    assert verdicts == [Verdict.INDEXED, Verdict.DUPLICATE]


@pytest.mark.parametrize("fault", AT_FAULT)
def test_a_document_at_fault_is_refused(fault: str, es: EsClient, index: str) -> None:
    """What is wrong with the document itself is final, and its neighbours are indexed."""
    before, ruling, after = create(es, index, b'{"k":"a"}', AT_FAULT[fault], b'{"k":"b"}')
    assert (before.verdict, ruling.verdict, after.verdict) == (Verdict.INDEXED, Verdict.REFUSED, Verdict.INDEXED)
    assert ruling.type
    assert ruling.reason


@pytest.mark.parametrize("source", [b'{"k":"a","k":"b"}', b'{"fresh":{"k":"a","k":"b"}}'])
def test_a_repeated_key_is_told_apart(source: bytes, es: EsClient, index: str) -> None:
    """What can be mended by writing the document once more is not refused."""
    assert create(es, index, source)[0].verdict is Verdict.REPEATED_KEY


@pytest.mark.parametrize(
    ("limits", "source", "verdict"),
    [
        ({"total_fields.limit": 3}, b'{"a":1,"b":1,"c":1,"d":1}', Verdict.REFUSED),
        (
            {"total_fields.limit": 3, "total_fields.ignore_dynamic_beyond_limit": True},
            b'{"a":1,"b":1,"c":1,"d":1}',
            Verdict.INDEXED,
        ),
        ({"depth.limit": 2}, b'{"a":{"b":{"c":{"d":1}}}}', Verdict.REFUSED),
        ({"field_name_length.limit": 40}, b'{"%s":1}' % (b"x" * 41), Verdict.REFUSED),
        ({"nested_objects.limit": 2}, b'{"nested":[{"a":1},{"a":2},{"a":3}]}', Verdict.REFUSED),
    ],
)
def test_limits_of_a_mapping(limits: dict[str, Any], source: bytes, verdict: Verdict, es: EsClient) -> None:
    """A document beyond a limit is refused, and one that brings too many fields is taken where they are ignored."""
    settings = {f"index.mapping.{name}": value for name, value in limits.items()}
    other = made(es, {"properties": {"nested": {"type": "nested"}}}, **settings)
    assert create(es, other, source)[0].verdict is verdict


def test_strict_mapping(es: EsClient) -> None:
    """A field that a strict mapping does not have is the document's fault."""
    assert create(es, made(es, {"dynamic": "strict"}), b'{"a":1}')[0].verdict is Verdict.REFUSED


def test_a_field_that_has_become_something_else(es: EsClient, index: str) -> None:
    """An object where the first document brought a number is the later document's fault."""
    rulings = create(es, index, b'{"fresh":1}', b'{"fresh":{"a":1}}', b'{"fresh.a":1}')
    assert [each.verdict for each in rulings] == [Verdict.INDEXED, Verdict.REFUSED, Verdict.REFUSED]


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
def test_a_block_is_the_indexs_trouble(block: str, es: EsClient, index: str) -> None:
    """A blocked index loses no document."""
    es.put(f"/{index}/_settings", {f"index.blocks.{block}": True})
    ruling = create(es, index, b'{"k":"a"}')[0]
    assert ruling.verdict is Verdict.INDEX_TROUBLE
    assert speaks_of_the_index(ruling) is (block != "read_only_allow_delete")  # which a full disk sets
    es.put(f"/{index}/_settings", {f"index.blocks.{block}": None})
    assert create(es, index, b'{"k":"a"}')[0].verdict is Verdict.INDEXED


def test_closed(es: EsClient, index: str) -> None:
    """A closed index loses no document."""
    es.post(f"/{index}/_close")
    ruling = create(es, index, b'{"k":"a"}')[0]
    assert ruling.verdict is Verdict.INDEX_TROUBLE
    assert speaks_of_the_index(ruling)


@pytest.mark.parametrize("kind", ["default_pipeline", "final_pipeline"])
@pytest.mark.parametrize("pipeline", ["missing", "field-names", "field name"])
def test_a_missing_pipeline(kind: str, pipeline: str, es: EsClient, index: str) -> None:
    """A pipeline that is not there is no fault of a document, whatever it is called."""
    es.put(f"/{index}/_settings", {f"index.{kind}": pipeline})
    assert create(es, index, b'{"k":"a"}')[0].verdict is Verdict.INDEX_TROUBLE


def test_required_routing(es: EsClient) -> None:
    """An index that wants a routing takes no document of ours, and is to blame for it."""
    assert create(es, made(es, {"_routing": {"required": True}}), b'{"a":1}')[0].verdict is Verdict.INDEX_TROUBLE


def test_an_alias_without_write_index(es: EsClient, index: str) -> None:
    """An alias that does not say where to write is the index's trouble."""
    actions = [{"add": {"index": each, "alias": f"{es.prefix}alias"}} for each in (index, made(es))]
    es.post("/_aliases", {"actions": actions})
    assert create(es, f"{es.prefix}alias", b'{"k":"a"}')[0].verdict is Verdict.INDEX_TROUBLE


def test_a_shard_that_is_nowhere(es: EsClient) -> None:
    """An index whose shard cannot be placed is in trouble, and Elasticsearch is not asked to wait for it for long."""
    index = f"{es.prefix}nowhere"
    settings = {"index.routing.allocation.require.color": "none"}
    es.put(f"/{index}", {"settings": settings}, wait_for_active_shards="0")
    lines = b'{"create":{"_index":"%s"}}\n{"a":1}\n' % index.encode()
    [item] = es.post("/_bulk", lines, timeout="100ms")["items"]
    assert item["create"]["status"] == 503
    assert rule(item["create"]).verdict is Verdict.INDEX_TROUBLE


def test_troubles_of_the_whole_node(elasticsearch_node: ElasticsearchNode) -> None:
    """An index that may not be created loses no document, whatever the reason."""
    es = EsClient(elasticsearch_node.url, "t-own-")
    try:
        for settings in (
            {"action.auto_create_index": "false"},
            {"action.auto_create_index": "-t-own-*,+*"},
            {"cluster.max_shards_per_node": 1},
        ):
            create(es, "elsewhere", b'{"a":1}')  # one shard is in use
            es.put("/_cluster/settings", {"persistent": settings})
            ruling = create(es, "t-own-fresh", b'{"a":1}')[0]
            assert ruling.verdict is Verdict.INDEX_TROUBLE, settings
            assert not speaks_of_the_index(ruling)
            es.put("/_cluster/settings", {"persistent": dict.fromkeys(settings)})
        assert create(es, "t-own-fresh", b'{"a":1}')[0].verdict is Verdict.INDEXED
        assert create(es, "T-Own", b'{"a":1}')[0].verdict is Verdict.INDEX_TROUBLE
    finally:
        es.close()
