"""A live tail takes the documents that a search with the same filters finds."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from gateway.monitoring.matching import Document, fitting
from gateway.store.query import Query
from tests.contract import test_store as contract


def ids(query: Query) -> set[str]:
    """Return the ids of those of the contract's documents that fit."""
    fits = fitting(query)
    return {
        name
        for index, documents in contract.EVENTS.items()
        for name, source in documents.items()
        if fits(Document(index, b'{"create":{"_index":"%b","_id":"%b"}}' % (index.encode(), name.encode()),
                         orjson.dumps(source)))
    }  # fmt: skip


def cases(test: Any) -> list[Any]:
    """Return the cases of a test of the stores' contract."""
    (mark,) = (each for each in test.pytestmark if each.name == "parametrize")
    return list(mark.args[1])


@pytest.mark.parametrize(("field", "value", "found"), cases(contract.test_where))
def test_where(field: str, value: str, found: list[str]) -> None:
    """A field equals a value as in the stores."""
    assert ids(Query(where=((field, value),))) == set(found)


@pytest.mark.parametrize(("text", "found"), cases(contract.test_text))
def test_words(text: str, found: list[str]) -> None:
    """Words occur as in the stores."""
    assert ids(Query(text=text)) == set(found)


@pytest.mark.parametrize(("pattern", "found"), cases(contract.test_index_pattern))
def test_index(pattern: str, found: list[str]) -> None:
    """Patterns choose indices as in the stores."""
    assert ids(Query(index=pattern)) == set(found)


@pytest.mark.parametrize(
    ("where", "line", "fits"),
    [
        (("model_name", "fraud"), rb'{"mod\u0065l_name":"fraud"}', True),
        (("model_name", "fraud"), rb'{"model_name":"fr\u0061ud"}', True),
        (("model_name", 'a"b'), rb'{"model_name":"a\"b"}', True),
        (("model_name", "*"), rb'{"model_name":"x"}', True),
        (("model_name", "*"), rb'{"model_name":null}', False),
        (("model_name", "*"), rb'{"model":"model_name"}', False),
        (("n", "1e2"), rb'{"n":100}', True),
        (("n", "nan"), rb'{"n":1}', False),
        (("n", "1"), rb'{"n":true}', False),
        (("n", "12345678901234567890"), rb'{"n":12345678901234567890}', True),
        (("a.b.c", "1"), rb'{"a.b":[{"c":[0,1]}]}', True),
        (("a.b.c", "1"), rb'{"a":{"b":{"d":1}}}', False),
        (("_id", "x"), rb"{}", True),
        (("_index", "i"), rb"{}", True),
        (("_index", "j"), rb"{}", False),
    ],
)
def test_as_it_is_written(where: tuple[str, str], line: bytes, fits: bool) -> None:
    """What is written in another way is the same value; a time and a number are found as a person writes them."""
    found = Document("i", b'{"create":{"_index":"i","_id":"x"}}', line)
    assert fitting(Query(where=(where,)))(found) is fits


@pytest.mark.parametrize(
    ("word", "line", "fits"),
    [
        ("straße", '{"a":"STRASSE Straße"}', True),
        ("K", '{"a":"\u212a"}', True),  # a Kelvin sign, small it is a k
        ("timeout", rb'{"a":"T\u0049MEOUT"}'.decode(), True),
        ("timeout", '{"timeout":"x"}', False),
        ("deep", '{"a":' * 900 + '"DEEP"' + "}" * 900, True),
    ],
)
def test_words_of_any_language(word: str, line: str, fits: bool) -> None:
    """A word is found whatever its case and however it is written, at any depth."""
    found = Document("i", b'{"create":{"_index":"i","_id":"x"}}', line.encode())
    assert fitting(Query(text=word))(found) is fits


def test_a_hit_is_one_line() -> None:
    """What is shown is the document as it is stored, on one line, whatever a sender put between its values."""
    hit = Document("i", b'{"create":{"_index":"i","_id":"x"}}', b'{"a":1,\r"b":"\xc3\xa4"}').hit()
    assert not {*b"\r\n"} & {*hit}
    assert json.loads(hit) == {"_index": "i", "_id": "x", "_source": {"a": 1, "b": "ä"}}
