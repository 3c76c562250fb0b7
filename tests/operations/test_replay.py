"""Dead letters sent again: which pass, and as what."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.operations.dead_letters import DeadLetters
from gateway.operations.replay import Trial
from gateway.settings import Spool
from gateway.spool.chosen import Reading
from gateway.spool.folders import Folders
from gateway.spool.letters import LetterBox
from gateway.spool.record import Documents, Record
from gateway.spool.shelf import Letter
from gateway.spool.state import State
from gateway.store.query import QueryError
from gateway.summary import Summary
from tests.pipeline.blocks import new_digest
from tests.spool.building import everything, letter, letters_in

pytestmark = pytest.mark.anyio
INDEX = "ml-metrics-2026.06.15"
GOOD = b'{"model_name":"m","event_id":"1"}'


class Bench:
    """Dead letters of a data directory, and what replays put into its spool."""

    def __init__(self, letters: DeadLetters, state: State, records: Any) -> None:
        self.letters, self.state, self.records = letters, state, records

    def documents(self) -> list[Documents]:
        """Return all documents."""
        return [group for record in self.records() for group in record.documents()]

    def counted(self) -> dict[str, int]:
        """Return how many documents there are by what the records' figures say."""
        summary = Summary()
        for record in self.records():
            if record.summary() is not None:
                summary.plus(Summary.decode(record.summary()))
        return summary.indices

    async def keep(self, *letters: Letter) -> None:
        """Hold letters."""
        await self.state.run(lambda: self.state.keep(letters))

    async def replay(self, **filters: str) -> dict[str, Any]:
        """Send them again."""
        return await self.letters.replay(list(filters.items()))

    async def left(self) -> list[bytes]:
        """Return the bytes of those that are held."""
        return [row["data"] for row in await letters_in(self.state)]


def state_in(folder: Path) -> State:
    """Open a state in a folder, made when missing."""
    folder.mkdir(exist_ok=True)
    return State(folder / "state.sqlite3", 1 << 20)


@asynccontextmanager
async def bench(folder: Path, **trials: Trial) -> AsyncIterator[Bench]:
    """Open a data directory without sinks."""
    state = state_in(folder)
    reading = Reading(folder / "state.sqlite3")
    folders = Folders(folder / "spool", Spool(min_free_bytes=0), lambda **_: None)
    try:
        spool = folders.own

        def records() -> list[Record]:
            return [item.record for item in everything(spool.folder, spool.end)]

        box = LetterBox(spool, state)
        digest = new_digest(max_age_days=None)
        letters = DeadLetters(state, reading, folders, [box], digest, lambda: trials)
        yield Bench(letters, state, records)
    finally:
        await folders.stop()
    reading.close()
    state.close()


def of_sink(number: int, identity: str | None = None, source: str = "elasticsearch") -> Letter:
    """Return the letter of a document that a sink refused."""
    data = b'{"number":%d}' % number
    return Letter(f"es/0/{number}", letter(data, source=source, reason="mapping"), INDEX, identity)


def ids_in(groups: list[Documents]) -> dict[str, str]:
    """Return the documents by their ids."""
    lines = [line for group in groups for line in bytes(group.data).splitlines()]
    return {
        json.loads(action)["create"]["_id"]: document.decode()
        for action, document in zip(lines[::2], lines[1::2], strict=True)
    }


async def test_only_what_is_whole_and_passes_whole(tmp_path: Path) -> None:
    """A letter goes with all that is in it or not at all; what was never one event is none now."""
    passing = [
        letter(GOOD),
        letter(b"\xef\xbb\xbf " + GOOD + b"\r"),
        letter(b'[{"model_name":"a"},{"model_name":"b"}]', reason="cut"),
        letter(b'{"request_id":"r","true_label":1}', kind="label"),
    ]
    staying = [
        letter(GOOD, data_bytes=99),
        letter(b'[{"model_name":"a"},{"no":"kind"}]', reason="cut"),
        letter(b"[]", reason="cut"),
        letter(b" "),
        letter(b'[{"model_name":"m"}]', rule="not_an_object"),  # was within an array
        letter(b'{"request_id":"r","true_label":1}'),
    ]
    both = [each for pair in zip(passing, staying, strict=False) for each in pair] + staying[4:]
    async with bench(tmp_path) as at:
        await at.keep(*(Letter(str(number), each) for number, each in enumerate(both)))
        dry = await at.replay(dry_run="true")
        assert (dry["would_pass"], dry["stay"], len(await at.left())) == (4, 6, 10)

        report = await at.replay()

        assert (report["replayed"], report["stay"], report["why"]) == (4, 6, dry["why"])
        assert {(each["why"], each["reason"], each["rule"]): each["count"] for each in dry["why"]} == {
            ("beginning_kept", "json", "json_invalid"): 1,
            ("refused", "cut", "json_invalid"): 1,
            ("refused", "json", "json_invalid"): 1,
            ("refused", "schema", "kind_unknown"): 2,
            ("refused", "json", "not_an_object"): 1,
        }
        assert await at.left() == [each.data for each in staying]
        assert sum(group.count for group in at.documents()) == 5
        assert at.counted() == {"ml-metrics": 4, "ml-labels": 1}


async def test_each_message_is_told(tmp_path: Path) -> None:
    """Two reasons of the same rule and field are two; of many the most frequent are told, the rest are counted."""
    broken = [b"{" + b" " * n + b"x" for n in range(32)]  # each at another column
    wrong = [broken[30], broken[31], broken[31]]
    many = broken[:30] * 2
    async with bench(tmp_path) as at:
        await at.keep(*(Letter(f"a{n}", letter(each)) for n, each in enumerate(wrong)))
        why = (await at.replay(dry_run="true"))["why"]
        assert [(each["count"], each["path"], each["rule"]) for each in why] == [
            (2, "$", "json_invalid"),
            (1, "$", "json_invalid"),
        ]
        assert len({each["message"] for each in why}) == 2
        await at.keep(*(Letter(f"b{n}", letter(each)) for n, each in enumerate([*many, wrong[1]])))
        report = await at.replay(dry_run="true")
        assert [each["count"] for each in report["why"]] == [3, *[2] * 19]
        assert report["why_omitted"] == 11 * 2 + 1


async def test_what_a_sink_says_beforehand(tmp_path: Path) -> None:
    """Of documents that a sink refused those pass that it would take now; where it cannot say all are sent."""
    asked: list[tuple[str, bytes]] = []
    answers: list[list[str | None] | GatewayError] = []

    async def trial(documents: list[tuple[str, bytes]]) -> list[str | None]:
        asked[:] = documents
        answer = answers.pop(0)
        if isinstance(answer, GatewayError):
            raise answer
        return answer

    async with bench(tmp_path, elasticsearch=trial) as at:
        await at.keep(of_sink(1, "one"), of_sink(2, "two"), of_sink(3, "three", source="gone"))
        answers += [GatewayError("It is away."), [None, "still an object"], [None, "still an object"]]

        dry = await at.replay(dry_run="true")
        assert (dry["would_pass"], dry["unknown"], dry["stay"]) == (0, 3, 0)
        assert {each["message"].split(":")[0] for each in dry["why"]} == {
            "It is away.",
            "The sink gone cannot be asked now",
        }
        dry = await at.replay(dry_run="true")
        assert (dry["would_pass"], dry["unknown"], dry["stay"]) == (1, 1, 1)
        assert asked == [(INDEX, b'{"number":1}'), (INDEX, b'{"number":2}')]

        report = await at.replay()
        assert (report["replayed"], report["stay"]) == (2, 1)
        assert [each["message"] for each in report["why"]] == ["still an object"]
        assert ids_in(at.documents()) == {"one": '{"number":1}', "three": '{"number":3}'}
        assert at.counted() == {"ml-metrics": 2}
        answers.append(GatewayError("It is away."))
        assert (await at.replay())["replayed"] == 1
        assert await at.left() == []


async def test_letters_of_an_earlier_version_get_one_identity(tmp_path: Path) -> None:
    """A document whose `_id` was not kept gets one that is the same whenever it is sent."""
    found = []
    for name in ("a", "b"):
        async with bench(tmp_path / name) as at:
            await at.keep(of_sink(1), of_sink(2))
            await at.replay()
            found.append(ids_in(at.documents()))
    assert len(found[0]) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([("reson", "json")], "'reson' is not a parameter"),
        ([("reason", "json"), ("reason", "json")], "reason is given more than once"),
        ([("reason", "typo")], "reason must be one of json, schema, .* not .typo."),
        ([("dry_run", "yes")], "dry_run must be true or false"),
        ([("id", "x")], "id must be a number"),
        ([("id", f"{'0' * 19}1{'9' * 9}")], "id must be a number"),
        ([("from", "today")], "from is 'today', not a time"),
        ([("id", "1")] * 501, "id is given 501 times"),
    ],
)
async def test_what_makes_no_sense(tmp_path: Path, asked: list[tuple[str, str]], says: str) -> None:
    """A question that makes no sense is answered by one sentence, and nothing is done."""
    async with bench(tmp_path) as at:
        with pytest.raises(QueryError, match=says):
            await at.letters.replay(asked)
