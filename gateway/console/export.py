"""`/v1/export/INDEX`: a daily index as a Parquet file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import BinaryIO

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from gateway.console.filters import while_there
from gateway.errors import GatewayError, LimitReached
from gateway.store.query import QueryError, UnknownIndex

PARQUET = "application/vnd.apache.parquet"
CHUNK_BYTES = 256 << 10
STALLED_SECS = 60.0  # a caller that takes nothing for so long is given up


def router(export: Callable[[str], AbstractAsyncContextManager[BinaryIO]]) -> APIRouter:
    """Return the route. ``export`` gives the file, gone after use; it raises `GatewayError`."""
    routes = APIRouter(tags=["search"])

    @routes.get("/v1/export/{index}", response_class=Response, responses={200: {"content": {PARQUET: {}}}})
    async def download(index: str, request: Request) -> Response:
        """Give all documents of an index as one Parquet file."""
        use = AsyncExitStack()
        try:
            file = await while_there(request, use.enter_async_context(export(index)))
        except UnknownIndex as error:
            return _refused(404, error)
        except QueryError as error:
            return _refused(400, error)
        except LimitReached as error:
            return _refused(429, error, {"retry-after": "10"})
        except GatewayError as error:
            return _refused(503, error, {"retry-after": "1"})
        return _Download(file, f"{index}.parquet", use, request)

    return routes


class _Download(Response):
    """A file, read as fast as it is taken."""

    def __init__(self, file: BinaryIO, name: str, use: AsyncExitStack, request: Request) -> None:
        super().__init__(media_type=PARQUET)
        self._file, self._use, self._request = file, use, request
        self.headers["content-length"] = str(os.fstat(file.fileno()).st_size)
        self.headers["content-disposition"] = f'attachment; filename="{name}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._use:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            more = True
            while more and not await self._request.is_disconnected():
                chunk = await asyncio.to_thread(self._file.read, CHUNK_BYTES)
                more = bool(chunk)
                try:
                    async with asyncio.timeout(STALLED_SECS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": more})
                except TimeoutError:
                    return  # without an end: the server closes the connection


def _refused(status: int, error: GatewayError, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": str(error)}), status, headers, media_type="application/json")
