"""Dead letters through the door once more. Keeps promises 2, 3 and 6.

What passes becomes a record of the source `replay`, which names the letters that it settles: one write is both,
so that a crash leaves a letter or its document, and never neither or both. An event is read as one of the time at
which it came, and so gets the identity, the index and the `received_at` that it would have had then.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import orjson

from gateway.errors import GatewayError, Incomplete
from gateway.pipeline.block import Block
from gateway.pipeline.digest import Digest
from gateway.pipeline.parse import BOM
from gateway.spool.chosen import Held
from gateway.spool.record import Counts, Documents, Draft

SOURCE = "replay"
MAX_WHYS = 20
"""So many reasons are told, those of the most events."""
MAX_COUNTED = 1000
"""So many are told apart, and so the most frequent among them found."""

Trial = Callable[[list[tuple[str, bytes]]], Awaitable[list[str | None]]]
"""Says of each document of an index, by the sink that refused it, None or why it would be refused again.

Raises `GatewayError` when that cannot be known now.
"""


@dataclass
class Report:
    """What became, or would become, of the letters; all figures are events."""

    dry_run: bool
    events: int = 0
    passed: int = 0
    unknown: int = 0
    omitted: int = 0
    whys: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)

    def note(self, letter: Held, why: str, reason: str, path: str, rule: str, message: str) -> None:
        """Count a letter that does not pass."""
        key = (why, message) if why == "unknown" else (why, reason, path, rule, message)
        if key not in self.whys and len(self.whys) >= MAX_COUNTED:
            self.omitted += letter.events
            return
        new = {"count": 0, "why": why, "reason": reason, "path": path, "rule": rule, "message": message}
        self.whys.setdefault(key, {**new, "example": letter.id})["count"] += letter.events

    def keep(self, letter: Held, why: str, message: str) -> None:
        """Count a letter that stays for what is known of it."""
        self.note(letter, why, letter.reason, letter.path, letter.rule, message)

    def json(self) -> dict[str, Any]:
        """Return it as the answer has it."""
        figures = {"would_pass": self.passed, "unknown": self.unknown} if self.dry_run else {"replayed": self.passed}
        stay = self.events - self.passed - (self.unknown if self.dry_run else 0)
        whys = sorted(self.whys.values(), key=lambda each: -each["count"])
        omitted = self.omitted + sum(each["count"] for each in whys[MAX_WHYS:])
        told = {"why": whys[:MAX_WHYS]} | ({"why_omitted": omitted} if omitted else {})
        return {"dry_run": self.dry_run, "events": self.events, **figures, "stay": stay, **told}


class Replay:
    """One replay, or a dry run of it."""

    def __init__(self, digest: Digest, trials: Mapping[str, Trial], *, dry_run: bool) -> None:
        """``trials`` are the sinks that can be asked, by name."""
        self._digest = digest
        self._trials = trials
        self._report = Report(dry_run)

    async def run(
        self, batches: AsyncIterator[list[Held]], settle: Callable[[Draft], Awaitable[None]]
    ) -> dict[str, Any]:
        """Return what became of the letters; ``settle`` puts a draft on disk and returns when its letters are gone.

        Raises `Incomplete` when it fails midway.
        """
        report = self._report
        try:
            async for letters in batches:
                report.events += sum(letter.events for letter in letters)
                draft, unknown = await self._made(letters)
                if report.dry_run:
                    report.passed += len(draft.settled) - unknown
                    report.unknown += unknown
                elif draft.settled:
                    await settle(draft)
                    report.passed += len(draft.settled)
        except GatewayError as error:
            raise Incomplete(
                f"{error} {report.passed} dead letters were replayed before that, the others stay.",
                report.json(),
                error,
            ) from None
        return report.json()

    async def _made(self, letters: list[Held]) -> tuple[Draft, int]:
        """Return a draft of what passes, and of how many letters in it that is not known."""
        now = time.time()
        whole = [letter for letter in letters if self._is_whole(letter)]
        documents: dict[str, list[bytes | memoryview]] = defaultdict(list)
        counts: dict[str, int] = defaultdict(int)
        settled = []
        events = [letter for letter in whole if letter.index is None]
        for _, group in groupby(events, key=_request):
            passed, draft = await self._digested(list(group), now)
            settled += [letter.origin for letter in passed]
            for made in draft.documents:
                documents[made.index].append(made.data)
                counts[made.index] += made.count
        refused = [letter for letter in whole if letter.index is not None]
        taken, unknown = await self._tried(refused)
        for letter in taken:
            settled.append(letter.origin)
            documents[str(letter.index)].append(_lines(letter))
            counts[str(letter.index)] += 1
        groups = [Documents(index, counts[index], b"".join(parts)) for index, parts in documents.items()]
        total = sum(counts.values())
        summary = await asyncio.to_thread(self._digest.summary, groups)
        return Draft(SOURCE, Counts(received=total, accepted=total), groups, settled=settled, summary=summary), unknown

    def _is_whole(self, letter: Held) -> bool:
        data = letter.data
        if data is None:
            self._report.keep(letter, "bytes_not_kept", "The bytes were not kept (dead_letters.max_bytes).")
        elif len(data) != letter.data_bytes:
            self._report.keep(letter, "beginning_kept", "Only the beginning of the event was kept.")
        elif letter.index is None and not _is_event(letter):
            self._report.keep(letter, "refused", letter.message)
        else:
            return True
        return False

    async def _digested(self, letters: list[Held], now: float) -> tuple[list[Held], Draft]:
        """Return the letters in which everything passes, and what the pipeline makes of them."""
        first = letters[0]
        while letters:
            lines = [letter.data or b"" for letter in letters]
            block = Block(SOURCE, first.peer, lines, first.tenant, kind=first.kind)
            work = self._digest.block(block, first.at, now)
            while work.step():
                await asyncio.sleep(0)
            await asyncio.sleep(0)  # senders have their turn
            draft = work.draft()
            if not work.refusals and draft.counts.accepted:
                return letters, draft
            faults = {each.line: each for each in reversed(work.refusals)}
            for line, fault in sorted(faults.items()):
                self._report.note(letters[line], "refused", fault.reason, fault.path, fault.rule, fault.told)
            if not faults:  # an array of nothing
                self._report.keep(first, "refused", "There is no event in it.")
                break
            letters = [letter for line, letter in enumerate(letters) if line not in faults]
        return [], Draft(SOURCE, Counts())

    async def _tried(self, letters: list[Held]) -> tuple[list[Held], int]:
        """Return the letters of sinks that would be taken, and those of which that is not known: how many these are.

        What a sink refuses again is a dead letter again.
        """
        taken: list[Held] = []
        unknown = 0
        by_sink: dict[str, list[Held]] = defaultdict(list)
        for letter in letters:
            by_sink[letter.source].append(letter)
        for sink, asked in by_sink.items():
            try:
                answers = await self._ask(sink, [(str(letter.index), letter.data or b"") for letter in asked])
            except GatewayError as error:
                if self._report.dry_run:
                    for letter in asked:
                        self._report.note(letter, "unknown", letter.reason, letter.path, letter.rule, str(error))
                unknown += len(asked)
                taken += asked
                continue
            for letter, why in zip(asked, answers, strict=True):
                if why is None:
                    taken.append(letter)
                else:
                    self._report.keep(letter, "refused", why)
        return taken, unknown

    async def _ask(self, sink: str, documents: list[tuple[str, bytes]]) -> list[str | None]:
        trial = self._trials.get(sink)
        if trial is None:
            raise GatewayError(f"The sink {sink} cannot be asked now: a replay shows it.")
        return await trial(documents)


def _request(letter: Held) -> tuple[Any, ...]:
    """What the events of one block have in common; an array is one alone."""
    alone = letter.id if _text(letter).startswith(b"[") else None
    return letter.at, letter.tenant, letter.kind, alone


def _is_event(letter: Held) -> bool:
    """Whether it can be one: in an array that came whole each event has a letter of its own."""
    text = _text(letter)
    return bool(text) and (letter.reason == "cut" or not text.startswith(b"["))


def _text(letter: Held) -> bytes:
    return (letter.data or b"").removeprefix(BOM).strip()


def _lines(letter: Held) -> bytes:
    """Return the two lines of a document that a sink refused, under the identity that it had."""
    identity = letter.document_id
    if identity is None:  # kept by an earlier version
        identity = urlsafe_b64encode(hashlib.sha256(letter.origin.encode()).digest()[:15]).decode()
    action = orjson.dumps({"create": {"_index": letter.index, "_id": identity}})
    return b"%s\n%s\n" % (action, letter.data)
