"""Stands between the gateway and a real Elasticsearch and notes when each bulk was answered.

``python -m benchmarks.relay URL`` prints its port and ends with its standard input. It answers the calls below
``/bench`` as `benchmarks.counting_sink` does; a document has come when Elasticsearch's answer to its bulk has.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, web

from benchmarks.counting_sink import Ledger

MOST_BYTES = 1 << 28
PASSED_ON = ("content-type", "content-encoding", "accept")
PASSED_BACK = ("content-type", "x-elastic-product")


async def main() -> None:
    """Serve until standard input ends."""
    ledger = Ledger()
    async with ClientSession(sys.argv[1]) as session:

        async def relay(request: web.BaseRequest) -> web.Response:
            if request.path.startswith("/bench"):
                return web.Response(body=ledger.asked(request.path), content_type="application/json")
            body = await request.read()
            headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
            async with session.request(request.method, request.raw_path, data=body, headers=headers) as answer:
                said = await answer.read()
                if request.path.endswith("/_bulk") and answer.ok:
                    ledger.take(body)
                back = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
                return web.Response(status=answer.status, body=said, headers=back)

        server = await asyncio.get_running_loop().create_server(web.Server(relay), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.close()


if __name__ == "__main__":
    uvloop.run(main())
