"""The first page: latest events and counts."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

# The page brings all it needs: nothing is fetched from elsewhere, and no event's text can become code.
_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:"
_FILES = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)
    contents = {name: files("gateway.console").joinpath("static", name).read_bytes() for name in _FILES}

    def answer(name: str) -> Response:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
        return Response(contents[name], media_type=_FILES[name], headers=headers)

    @routes.get("/")
    async def first_page() -> Response:
        return answer("page.html")

    @routes.get("/console/page.css")
    async def style() -> Response:
        return answer("page.css")

    @routes.get("/console/page.js")
    async def script() -> Response:
        return answer("page.js")

    return routes
