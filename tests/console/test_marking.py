"""The field that an event was refused for is found in the bytes that were sent."""

import random
from typing import Any

import orjson
import pytest

from gateway.console.marking import marked, place
from schemas.fault import json_path


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        (rb'{"model_name":"a","prediction_confidence":1.7}', "$.prediction_confidence", b"1.7"),
        (rb' { "a" : { "x" : [ 1 , 2 ,  {"y": "z"} ] } } ', "$.a.x[2]", b'{"y": "z"}'),
        (rb'{"a":[[],[[5],6]]}', "$.a[1][0][0]", b"5"),
        (rb'{"text":"\"x\":1,","x":2}', "$.x", b"2"),  # the name within a string
        (rb'{"text":"{\"x\":[","x":[1,{"x":3}]}', "$.x[1].x", b"3"),
        (rb'{"x":1,"x":"last"}', "$.x", b'"last"'),  # the last counts
        (rb'{"a":{"x":1},"x":2}', "$.x", b"2"),  # not the one within
        (rb'{"x":{"y":1},"x":{"z":2}}', "$.x.y", None),
        (rb'{"\u0078":7}', "$.x", b"7"),
        (rb'{"a.b":1,"a":{"b":2}}', "$['a.b']", b"1"),
        (rb'{"a.b":1,"a":{"b":2}}', "$.a.b", b"2"),
        (rb'{"it\u0027s \\ [0]":{"":true}}', r"$['it\'s \\ [0]']['']", b"true"),
        ('{"größe":"ß"}'.encode(), "$['größe']", '"ß"'.encode()),
        (rb'{"0":"name"}', "$[0]", None),
        (rb'["one","two"]', "$[1]", b'"two"'),
        (b'\xef\xbb\xbf{"x":1}', "$.x", b"1"),  # with a byte order mark
        (b'{"a":"\xff","x":null}', "$.x", b"null"),
        (b'{"\xff":1,"x":2}', "$.x", b"2"),
        (rb'{"x":1}', "$", None),
        (rb'{"y":1}', "$.x", None),
        (rb'{"x":1}', "$.x.y", None),
        (rb'{"x":1}', "$.x[0]", None),
        (rb'{"a":[1,2', "$.a[1]", None),  # cut short
        (rb'{"x":"never closed', "$.x", None),
        (rb'{"xy":1}', "$.x…", None),  # a path that was cut
        (b"", "$.x", None),
        (b"12", "$.x", None),
    ],
)
def test_the_value_at_a_path(line: bytes, path: str, value: bytes | None) -> None:
    """Whatever is nested, repeated, escaped or broken: the field's own bytes, or none."""
    found = place(line, path)
    assert (None if found is None else line[found[0] : found[1]]) == value


def test_every_value_of_an_event_is_found() -> None:
    """Of invented events, nested at random, each path leads to its own value and nowhere else."""
    chance = random.Random(11)
    names = ["x", "a b", "x.y", "'", '"', "\\", "ü", "[0]", "", "}{"]

    def invented(depth: int) -> Any:
        sort = chance.randrange(6 if depth else 4)
        if sort == 4:
            return {name: invented(depth - 1) for name in chance.sample(names, 4)}
        if sort == 5:
            return [invented(depth - 1) for _ in range(3)]
        return [chance.choice(names), chance.randrange(-9, 9) / 4, None, True][sort]

    def looked_for(event: Any, steps: list[int | str], line: bytes) -> int:
        found = place(line, json_path(steps)) if steps else (0, len(line))
        assert found is not None, (steps, line)
        assert orjson.loads(line[found[0] : found[1]]) == event
        inside = event.items() if isinstance(event, dict) else enumerate(event) if isinstance(event, list) else ()
        return 1 + sum(looked_for(each, [*steps, step], line) for step, each in inside)

    events = [{name: invented(4) for name in names} for _ in range(20)]
    assert sum(looked_for(event, [], orjson.dumps(event, option=orjson.OPT_INDENT_2)) for event in events) > 1000


def test_deep_nesting_needs_no_deep_calls() -> None:
    """What is nested a hundred thousand times is passed over."""
    line = b'{"deep":' + b"[" * 100_000 + b"]" * 100_000 + b',"x":1}'
    assert place(line, "$.x") == (len(line) - 2, len(line) - 1)
    assert place(b'{"deep":' + b"[" * 100_000, "$.x") is None


def test_the_line_is_whole_where_it_is_short() -> None:
    """Before, field and behind are together what was sent."""
    line = marked(b'{"a":1,"x":"y","b":2}', "$.x")
    assert line == ('{"a":1,"x":', '"y"', ',"b":2}', True)
    assert marked(b'{"a":1}', "$.x") == ('{"a":1}', "", "", True)


def test_a_long_line_is_shortened_around_the_field() -> None:
    """A megabyte is no page: what stands beside the field is, and how much is left out."""
    line = b'{"pad":"%b","x":"%b","more":"%b"}' % (b"p" * 500_000, b"v" * 5000, b"m" * 400_000)
    before, field, after, is_whole = marked(line, "$.x", around=100)
    assert not is_whole
    assert before == " … 499,914 characters … " + "p" * 94 + '","x":'
    assert field.startswith('"vvv')
    assert field.endswith('vvv"')
    assert "4,902 characters" in field
    assert after.startswith(',"more":"mmm')
    assert max(len(before), len(field), len(after)) < 150
    assert len(marked(line, "$").before) < 4000


def test_what_cannot_be_read_is_written_as_escapes() -> None:
    """Bytes that are no text, and characters nobody sees, are told apart from others."""
    line = marked(b'{"a":"\xff\x00","x":"\xc3\xa4\x1b\xe2\x82","b":"\xc2\x85\n"}', "$.x")
    assert line.before == '{"a":"\\xff\\x00","x":'
    assert line.field == '"ä\\x1b\\xe2\\x82"'
    assert line.after == ',"b":"\\x85\n"}'
