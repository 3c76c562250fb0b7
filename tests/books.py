"""The books, as every test of a promise ends with them: every event that came in is somewhere."""

from typing import Any

from tests.gateway_process import Gateway


def check(status: dict[str, Any]) -> dict[str, Any]:
    """Return the books of a ``/status``; AssertionError unless they balance, by their own word and added up here."""
    books: dict[str, Any] = status["books"]
    assert books["difference"] == 0, books
    assert books["received"] == books["accepted"] + books["refused"] + books["filtered"], books
    for sink, mine in books["sinks"].items():
        assert sum(mine.values()) == books["accepted"], (sink, books)
    return books


def settled(running: Gateway, timeout: float = 60) -> dict[str, Any]:
    """Return the books once every sink has taken everything and they balance."""

    def taken(status: dict[str, Any]) -> bool:
        sinks = status["books"]["sinks"].values()
        return bool(sinks) and all(each["waiting"] == 0 for each in sinks)

    return check(running.wait_until(taken, timeout))
