"""Mistakes put into a running gateway on purpose: the crash tests must fail under each of them."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.crash.targets import replace

Function = Callable[..., Any]


class Sabotage(NamedTuple):
    """What is replaced, and by what: a function that takes the real one and returns another."""

    target: str
    make: Callable[[Function], Function]


def _nothing(real: Function) -> Function:
    return lambda *_, **__: None


def _not_waited_for(real: Function) -> Function:
    """An append that returns at once, and writes some time later."""
    tasks: set[asyncio.Task[None]] = set()

    async def write(spool: Any, draft: Any) -> None:
        await asyncio.sleep(0.2)
        await real(spool, draft)

    async def append(spool: Any, draft: Any) -> None:
        task = asyncio.create_task(write(spool, draft))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return append


def _refused_when_there(real: Function) -> Function:
    """A ruling by which a document that is already there is refused."""

    def rule(item: dict[str, Any]) -> Any:
        from gateway.sinks.elasticsearch.verdicts import Ruling, Verdict

        return Ruling(Verdict.REFUSED, "version_conflict", "there") if item.get("status") == 409 else real(item)

    return rule


def _settled_first(real: Function) -> Function:
    """A sending that notes its documents as indexed, so that the cursor moves, and sends them then."""

    async def send(sender: Any, bulk: Any, folder: str) -> None:
        from gateway.sinks.elasticsearch.sender import Sending

        for part in bulk.parts:
            part.taken.indexed += part.count
            sender._close(part.taken, part.count)
        await sender._answered(bulk, Sending(folder))

    return send


def _always_new(real: Function) -> Function:
    """An identity that forgets what identifies the event."""

    def of(self: Any, place: bytes, fields: Any, data: bytes, now_ms: int) -> bytes:
        found: bytes = real(self, place, {}, data, now_ms)
        return found

    return of


def _without_letters(real: Function) -> Function:
    """A commit of the letter box that moves the cursor alone."""
    return lambda box, cursor, _: real(box, cursor, [])


SABOTAGES: dict[str, Sabotage] = {
    "no sync": Sabotage("os.fdatasync", _nothing),
    "no sync of the folder": Sabotage("gateway.spool.appender._sync_folder", _nothing),
    "acknowledged before the write": Sabotage("gateway.spool.spool.Spool.append", _not_waited_for),
    "409 is an error": Sabotage("gateway.sinks.elasticsearch.doubt.rule", _refused_when_there),
    "cursor before the answer": Sabotage("gateway.sinks.elasticsearch.sender.Sender.send", _settled_first),
    "always a new identity": Sabotage("gateway.pipeline.identity.Identity.of", _always_new),
    "refused events forgotten": Sabotage("gateway.spool.letters.LetterBox._keep", _without_letters),
}


def apply(name: str) -> None:
    """Put a mistake into this process."""
    replace(*SABOTAGES[name])
