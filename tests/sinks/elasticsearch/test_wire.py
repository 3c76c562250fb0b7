"""Bulks and their answers on the wire: the short way says the same as the long one."""

from __future__ import annotations

import json

import pytest
from elastic_transport import SerializationError

from gateway.sinks.elasticsearch.verdicts import Created
from gateway.sinks.elasticsearch.wire import Answers, Bodies

CREATED = '{"create":{"status":201}}'


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_answer_that_says_only_created_is_read_as_a_number(count: int) -> None:
    items = Answers().loads(f'{{"errors":false,"items":[{",".join([CREATED] * count)}]}}'.encode())["items"]
    assert isinstance(items, Created)
    assert items == count


@pytest.mark.parametrize(
    "answer",
    [
        '{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":200}}]}',
        '{"errors":false,"items":[{"create":{"status":201}},{}]}',
        '{"errors":false,"items":[{"create":{"status":201}}],"took":3}',
        '{"errors":false,"items":[{"create":{"status":201}} ]}',
        '{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409,"error":{"type":"a"}}}]}',
        '{"took":1,"errors":false,"items":[{"create":{"status":201}}]}',
        '{"hits":[{"_source":{"n":123456789012345678901234567890}}]}',
    ],
)
def test_any_other_answer_is_read_whole(answer: str) -> None:
    assert Answers().loads(answer.encode()) == json.loads(answer)


@pytest.mark.parametrize(
    "answer", ['{"errors":false,"items":[{"create":{"status":201}}', '{"errors":true,', "nonsense"]
)
def test_what_is_no_answer_is_said_to_be_none(answer: str) -> None:
    with pytest.raises(SerializationError):
        Answers().loads(answer.encode())


def test_ready_bytes_are_sent_as_they_are() -> None:
    body = b'{"create":{}}\n{"a":1}\n'
    assert Bodies().dumps(body) is body
    assert Bodies().dumps([{"index": "a"}, {}]) == b'{"index":"a"}\n{}\n'
