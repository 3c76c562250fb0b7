"""What single requests are compared with: a FastAPI endpoint that does nothing, under uvicorn as the gateway runs it.

``python -m benchmarks.empty`` prints its port and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading

import uvicorn
import uvloop
from fastapi import FastAPI

application = FastAPI()


@application.post("/v1/events")
async def nothing() -> dict[str, int]:
    """Answer, and read nothing."""
    return {}


def main() -> None:
    """Serve on the event loop, with the HTTP parser and without the logs of the gateway."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
