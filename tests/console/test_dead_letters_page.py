"""The page of dead letters: what a real gateway refused, counted, found by filters, with the field marked."""

import html
import re

import pytest

from tests.gateway_process import Gateway, GatewayFactory

pytestmark = [pytest.mark.process, pytest.mark.waits]

CONFIDENT = b'{"model_name":"m","prediction_confidence": 1.7 ,"region":"eu"}'
NESTED = b'{"type":"model_training","metrics":{"rmse":0.1,"a.b":"high"},"note":"\\"a.b\\":1"}'
BYTES = b'{"model_name":"\xff"}'
LONG = b'{"model_name":"m","pad":"%b","cpu_usage":"high","rest":"%b"}' % (b"p" * 400_000, b"r" * 300_000)
TAGS = re.compile(r"<[^>]*>")


def panel(running: Gateway, name: str, status: int = 200, *, cursor: str = "", **query: str) -> str:
    answer = running.http.get(f"/console/dead_letters/{name}", params={**query, "cursor": cursor})
    assert answer.status_code == status, answer.text
    return answer.text


def text(markup: str) -> str:
    return " ".join(html.unescape(TAGS.sub(" ", markup)).split())


def groups(markup: str) -> list[tuple[int, str, str]]:
    """Return events, field and rule of each group shown."""
    rows = re.findall(
        r"<strong>([0-9,]+)</strong>.*?<code>(.*?)</code><br>\s*<span[^>]*>(.*?)</span>", markup, re.DOTALL
    )
    return [(int(count.replace(",", "")), html.unescape(path), rule) for count, path, rule in rows]


def test_groups_letters_and_the_field(gateway: GatewayFactory) -> None:
    """Groups have the counts of what was refused, filters narrow them, a letter shows its field in its line."""
    running = gateway()
    refused = [CONFIDENT] * 60 + [NESTED, BYTES, LONG]
    headers = {"x-scope-orgid": "team <a>"}
    for lines, more in ((refused, headers), ([CONFIDENT] * 2, {})):
        body = b"\n".join(lines)
        assert running.http.post("/v1/events", content=body, headers=more).json()["rejected"] == len(lines)
    running.send_tcp(b"not json\n")
    running.wait_until(lambda now: now["books"]["dead_letters"] == len(refused) + 3)

    shown = panel(running, "groups")
    assert groups(shown)[0] == (62, "$.prediction_confidence", "less_than_equal")
    assert sorted(groups(shown)[1:]) == [
        (1, "$", "json_invalid"),
        (1, "$", "utf8_invalid"),
        (1, "$.cpu_usage", "float_type"),
        (1, "$.metrics['a.b']", "float_type"),
    ]
    assert groups(panel(running, "groups", tenant="team <a>", path="$.prediction_confidence"))[0][0] == 60
    assert groups(panel(running, "groups", source="tcp")) == [(1, "$", "json_invalid")]
    assert "No dead letter is like that." in panel(running, "groups", reason="sink")
    assert "reason must be one of json, schema" in panel(running, "groups", status=400, reason="boredom")
    assert "is not a parameter of this page" in panel(running, "groups", status=400, colour="red")

    # The newest first, then older ones, each once.
    seen: list[str] = []
    cursor = ""
    while True:
        page = panel(running, "newest", rule="less_than_equal", cursor=cursor)
        seen += re.findall(r"letter=(\d+)\">Input", page)
        older = re.search(r"cursor=(\d+)\" rel=\"next\"", page)
        if older is None:
            break
        cursor = older[1]
    assert len(seen) == len(set(seen)) == 62
    assert seen == sorted(seen, key=int, reverse=True)

    letters = running.http.get("/v1/dead-letters", params={"each": "true", "limit": "1000"}).json()["letters"]
    by_rule = {each["path"] + each["rule"]: each for each in letters}
    for key, value, line in (
        ("$.prediction_confidenceless_than_equal", "1.7", CONFIDENT.decode()),
        ("$.metrics['a.b']float_type", '"high"', NESTED.decode()),
        ("$utf8_invalid", None, r'{"model_name":"\xff"}'),
    ):
        letter = by_rule[key]
        shown = panel(running, "letter", letter=str(letter["id"]))
        original = re.search(r"<pre class=\"original\"[^>]*>(.*?)</pre>", shown, re.DOTALL)
        assert original is not None
        mark = re.search(r"<mark>(.*?)</mark>", original[1])
        assert (html.unescape(mark[1]) if mark else None) == value
        assert html.unescape(TAGS.sub("", original[1])) == line
        assert letter["message"] in text(shown)
        assert letter["peer"] in text(shown)

    shown = panel(running, "letter", letter=str(by_rule["$.cpu_usagefloat_type"]["id"]))
    assert len(shown) < 20_000
    assert "<mark>&#34;high&#34;</mark>" in shown
    assert "It is shown shortened." in text(shown)
    assert "any more" in panel(running, "letter", letter="999999")
    assert "is not the id of a dead letter" in panel(running, "letter", status=400, letter="1; DROP")


def test_an_event_whose_bytes_were_not_kept(gateway: GatewayFactory) -> None:
    """It says so, rather than show an empty line."""
    running = gateway(env={"GATEWAY_DEAD_LETTERS__MAX_BYTES": "1"})
    assert running.http.post("/v1/events", content=CONFIDENT).json()["rejected"] == 1
    running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    assert "was reached: 1. These cannot be sent again." in text(panel(running, "groups"))
    (letter,) = running.http.get("/v1/dead-letters?each=true").json()["letters"]
    shown = panel(running, "letter", letter=str(letter["id"]))
    assert "The event itself was not kept" in text(shown)
    assert "<pre" not in shown
