"""What the gateway is compared with on a real Elasticsearch: bulks that are ready, sent by nothing but a client.

``python -m benchmarks.direct URL FILE SIZE`` reads action and document lines, prints ``ready``, waits for a line on
standard input, sends bulks of ``SIZE`` documents, four at a time, and prints `Sent` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import uvloop
from aiohttp import ClientSession

from benchmarks.load import Sent

IN_FLIGHT = 4


async def main(url: str, lines: list[bytes], size: int) -> None:
    """Load; raise RuntimeError when a document is not created."""
    bodies = [b"".join(lines[first : first + 2 * size]) for first in range(0, len(lines), 2 * size)]
    bodies.reverse()
    async with ClientSession(url) as session:
        print("ready", flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            return

        async def work() -> None:
            while bodies:
                headers = {"content-type": "application/x-ndjson"}
                async with session.post("/_bulk?filter_path=errors", data=bodies.pop(), headers=headers) as answer:
                    said = await answer.read()
                    if answer.status != 200 or json.loads(said)["errors"] is not False:
                        raise RuntimeError(f"{answer.status} {said[:500]!r}")

        cpu, started = time.process_time(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        sent = Sent(time.perf_counter() - started, time.process_time() - cpu, len(lines) // 2)
    print(json.dumps(asdict(sent)), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes().splitlines(keepends=True), int(sys.argv[3])))
