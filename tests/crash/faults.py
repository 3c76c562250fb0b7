"""The places at which a gateway dies: between every two neighbouring steps of the write path.

A fault dies before or after the nth call of a function. Where a function is imported by name it is
named where it is called.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from tests.crash.targets import replace

BULK = "gateway.sinks.elasticsearch.sender.send_bulk"
STATE = "gateway.spool.state.State"
STORE = "gateway.store.embedded.EmbeddedStore"


class Fault(NamedTuple):
    """Death before or after a call, or in the middle of a write.

    ``most`` bounds the drawn number of the call. ``needs`` says what leads there: an index that is blocked
    for a while, or a SIGTERM.
    """

    target: str
    when: Literal["before", "after", "half"]
    most: int = 60
    needs: Literal["", "block", "term"] = ""


# In the order of the way of an event.
FAULTS: dict[str, Fault] = {
    # what was read is in memory
    "tcp bytes arrived": Fault("gateway.sources.tcp.connection.Connection.buffer_updated", "before"),
    "http body read": Fault("gateway.sources.http.routes.Ingestion._read", "after"),
    "before the digest": Fault("gateway.pipeline.digest.Digest.block", "before"),
    "after the digest": Fault("gateway.pipeline.digest.Digestion.draft", "after"),
    # the spool
    "append asked for": Fault("gateway.spool.spool.Spool.append", "before"),
    "append queued": Fault("gateway.spool.spool.Spool._put", "before"),
    "segment made": Fault("gateway.spool.appender._create", "after", 8),
    "before the write": Fault("os.pwritev", "before"),
    "half written": Fault("os.pwritev", "half"),
    "written": Fault("os.pwritev", "after"),
    "before the sync": Fault("os.fdatasync", "before"),
    "synced": Fault("os.fdatasync", "after"),
    "before the folder's sync": Fault("gateway.spool.appender._sync_folder", "before", 8),
    "folder synced": Fault("gateway.spool.appender._sync_folder", "after", 8),
    "on disk, futures open": Fault("gateway.spool.appender.Appender.write", "after"),
    "futures resolved": Fault("gateway.spool.spool.Spool._write_group", "after"),
    "taken, not answered": Fault("gateway.pipeline.intake.Door.accept", "after"),
    "http answer made": Fault("gateway.sources.http.routes.Ingestion._answer", "after"),
    "before the tcp acknowledgement": Fault("gateway.sources.tcp.connection.Connection._tell", "before"),
    "tcp acknowledgement written": Fault("gateway.sources.tcp.connection.Connection._tell", "after"),
    # the sinks
    "sink has read": Fault("gateway.spool.reader.Reader.read", "after"),
    "before the bulk": Fault(BULK, "before", 30),
    "bulk answered, answer unread": Fault("aiohttp.client_reqrep.ClientResponse.start", "after", 30),
    "answer read": Fault(BULK, "after", 30),
    "verdict given": Fault("gateway.sinks.elasticsearch.sender.Sender._close", "before"),
    "before the cursor's BEGIN": Fault(f"{STATE}.commit", "before", 20),
    "before the cursor's COMMIT": Fault(f"{STATE}._move", "after", 20),
    "cursor committed": Fault(f"{STATE}.commit", "after", 20),
    "before the release": Fault("gateway.spool.spool.Spool.release", "before", 20),
    "released": Fault("gateway.spool.spool.Spool.release", "after", 20),
    "before a segment's unlink": Fault("os.unlink", "before", 8),
    "segment unlinked": Fault("os.unlink", "after", 8),
    "before the store's BEGIN": Fault(f"{STORE}._commit", "before", 8),
    "rows in, cursor not": Fault("gateway.store.catalog.move", "before", 8),
    "before the store's COMMIT": Fault("gateway.store.catalog.move", "after", 8),
    "store committed": Fault(f"{STORE}._commit", "after", 8),
    # what was refused, and what is put aside
    "before the letters' commit": Fault("gateway.spool.letters.LetterBox._keep", "before", 8),
    "letters committed": Fault("gateway.spool.letters.LetterBox._keep", "after", 8),
    "about to be parked": Fault("gateway.sinks.elasticsearch.sender.Parked", "after", 8, "block"),
    "parked": Fault(f"{STATE}.parked_indices", "before", 4, "block"),
    "before the unparking": Fault(f"{STATE}.unpark", "before", 3, "block"),
    "unparked": Fault(f"{STATE}.unpark", "after", 3, "block"),
    # start and stop
    "before the recovery": Fault("gateway.spool.appender.Appender._recover", "before", 1),
    "recovered": Fault("gateway.spool.appender.Appender._recover", "after", 1),
    "state opened": Fault(f"{STATE}._prepare", "after", 1),
    "store opened": Fault(f"{STORE}._open", "after", 1),
    "sinks attached": Fault("gateway.spool.spool.Spool.attached", "after", 1),
    "spool stops": Fault("gateway.spool.spool.Spool.stop", "before", 1, "term"),
    "spool stopped": Fault("gateway.spool.spool.Spool.stop", "after", 1, "term"),
    "before the state's close": Fault(f"{STATE}.close", "before", 1, "term"),
}


def arm(name: str, number: int, die: Callable[[], None]) -> None:
    """Let this process die at the ``number``-th call of a fault's target."""
    fault = FAULTS[name]
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        async def asynchronous(*args: Any, **options: Any) -> Any:
            now = due()
            if now and fault.when == "before":
                die()
            result = await real(*args, **options)
            if now:
                die()
            return result

        def synchronous(*args: Any, **options: Any) -> Any:
            now = due()
            if now and fault.when == "before":
                die()
            if now and fault.when == "half":
                args = _half(*args)
            result = real(*args, **options)
            if now:
                die()
            return result

        return asynchronous if inspect.iscoroutinefunction(real) else synchronous

    replace(fault.target, make)


def _half(file: int, buffers: list[bytes], offset: int) -> tuple[int, list[bytes], int]:
    data = b"".join(buffers)
    return file, [data[: len(data) // 2]], offset
