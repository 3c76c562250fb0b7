"""What `/v1/search` and `/v1/aggregate` share: the parameters that choose documents, how long one waits, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Query as Parameter
from fastapi import Request, Response

from gateway.access import Receive
from gateway.errors import GatewayError
from gateway.store.query import Query, QueryError, StoreOpening, StoreUnavailable
from gateway.store.store import Store

ANSWER_SECS = 60.0
T = TypeVar("T")
_NAMES = {"index", "from", "to", "where", "q"}


@dataclass(frozen=True)
class Filters:
    """Which documents, as asked for."""

    index: str
    since: str | None
    until: str | None
    where: list[str]
    q: str | None
    given: list[str]
    """The name of every parameter of the request, as often as it came."""

    def query(self, **more: Any) -> Query:
        """Return the query, with what `Query` takes besides; raise `QueryError` when it makes no sense."""
        where = tuple(_field_and_value(each) for each in self.where)
        return Query(self.index, self.since, self.until, where, self.q or None, **more)

    def refuse_others(self, *names: str, repeated: Collection[str] = (), without: Collection[str] = ()) -> None:
        """Raise `QueryError` for a parameter besides the filters and ``names``, or one twice unless ``repeated``.

        ``without`` names filters that there are not.
        """
        known = sorted(_NAMES.union(names).difference(without))
        for name in sorted(set(self.given)):
            if name not in known:
                raise QueryError(f"{name!r} is not a parameter: there are {', '.join(known)}.")
            if self.given.count(name) > 1 and name not in ("where", *repeated):
                raise QueryError(f"{name} is given {self.given.count(name)} times, it may be given once.")


Index = Annotated[str, Parameter(description="Index names or patterns, several by comma.")]
Where = Annotated[list[str] | None, Parameter(description="FIELD:VALUE; repeat for several.")]
Words = Annotated[str | None, Parameter(description="Words that all occur in the document.")]


async def filters(
    request: Request,
    index: Index = "*",
    since: Annotated[str | None, Parameter(alias="from", description="Earliest time, ISO 8601 or epoch.")] = None,
    until: Annotated[str | None, Parameter(alias="to", description="Latest time, ISO 8601 or epoch.")] = None,
    where: Where = None,
    q: Words = None,
) -> Filters:
    """Read the filters of a request."""
    return Filters(index, since, until, where or [], q, given(request))


def given(request: Request) -> list[str]:
    """Return the name of every parameter of a request, as often as it came."""
    return [name for name, _ in request.query_params.multi_items()]


def whole(name: str, value: str, of: str) -> int:
    """Return a parameter that is a number of something; raise `QueryError` when it is not."""
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise QueryError(f"{name} must be a number of {of}, not {value[:20]!r}.")
    return int(value)


def opened(store: Store | None) -> Store:
    """Return the store; raise `StoreUnavailable` for None."""
    if store is None:
        raise StoreOpening("The store is being opened: ask again in a moment.")
    return store


async def answer(request: Request, ask: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> Response:
    """Ask, and answer: also what goes wrong, in one sentence."""
    try:
        return json_answer(200, await while_there(request, ask(), ANSWER_SECS))
    except QueryError as error:
        return json_answer(400, {"error": str(error)})
    except GatewayError as error:
        return json_answer(503, {"error": str(error)})


async def while_there(request: Request, asked: Coroutine[Any, Any, T], secs: float | None = None) -> T:
    """Return what is asked for; break it off and raise `StoreUnavailable` when the caller goes or after ``secs``."""
    asking = asyncio.create_task(asked)
    going = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait((asking, going), timeout=secs, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
        if going.done():
            raise StoreUnavailable("Nobody waits for the answer any more.")
        raise StoreUnavailable(
            f"The store has no answer within {secs:g} s: ask for less at once, "
            "such as a shorter time or fewer indices, or ask again later."
        )
    except asyncio.CancelledError:  # by the server, which waits for no answer for long, or by the store
        raise StoreUnavailable("The gateway is stopping.") from None
    finally:
        asking.cancel()
        going.cancel()
        await asyncio.wait((asking, going))


async def disconnected(receive: Receive) -> None:
    """Wait until the caller is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _field_and_value(text: str) -> tuple[str, str]:
    field, colon, value = text.partition(":")
    if not field or not colon:
        raise QueryError(f"where must be FIELD:VALUE, not {text!r}.")
    return field, value


def json_answer(status: int, content: object) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
