"""How a page and its panels are answered: Jinja's templates, and the files they need.

A page comes at once, with an empty panel of fixed height for each of its questions. Each panel is then asked for at
``/console/PAGE/PANEL`` with the page's own query, and again as long as somebody looks at it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from jinja2 import DictLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

import gateway
from gateway.console import words
from gateway.console.filters import while_there
from gateway.console.panels import LEAST_SECS, MOST_SECS, Panel, Panels
from gateway.console.view import DEFAULT_RANGE, RANGES, View, view
from gateway.errors import GatewayError
from gateway.store.query import QueryError, StoreOpening

# A page brings all it needs: nothing is fetched from elsewhere, and no event's text can become code.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "referrer-policy": "same-origin"}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_CHARTS = "django/static/chartkick/Chart.bundle.js"
"""Chart.js, as the package chartkick has it."""
_YEAR = "public, max-age=31536000, immutable"
_ODD = re.compile(r"[^ !#-\[\]-~]")
"""What may not stand within quotes in a header."""
_PATIENT = "max-stale"
"""What a browser asks with that only keeps a panel fresh."""
OPENING_SECS = 1.0
_OPENING = "The store is being opened: this fills itself when it is."

Context = dict[str, Any]
Maker = Callable[[View], Coroutine[Any, Any, Context]]
"""Gives what the template of a panel needs; raises `QueryError` or `GatewayError`."""


class NotYet(GatewayError):
    """What a panel shows is there in a moment: it is asked for again soon, and says so."""


@dataclass(frozen=True)
class Page:
    """One page of the navigation."""

    name: str
    path: str
    title: str
    filters: Sequence[str] = ()
    """The names of what it can be narrowed to, besides the time."""
    panels: Mapping[str, Maker] = field(default_factory=dict)
    has_range: bool = True
    in_navigation: bool = True
    scripts: Sequence[str] = ()
    styles: Sequence[str] = ()
    """Files of its own in `static`, besides those of every page."""
    facts: Context = field(default_factory=dict)
    """What its template is given besides what all are."""


class Layout:
    """Makes pages and panels, and serves the files they need."""

    def __init__(self, default_range: Callable[[], str] = lambda: DEFAULT_RANGE) -> None:
        """``default_range`` gives the stretch that a page begins with, one of `RANGES`."""
        self._default_range = default_range
        self._templates = Environment(
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        packed = PackageLoader("gateway.console", "templates")
        # Read now: nobody waits for the disk later.
        texts = {name: packed.get_source(self._templates, name)[0] for name in packed.list_templates()}
        self._templates.loader = DictLoader(texts)
        self._templates.filters.update(words.FILTERS)
        self._templates.globals.update(version=gateway.__version__, RANGES=RANGES)
        self._templates.policies["json.dumps_function"] = lambda value, **_: orjson.dumps(value).decode()
        self._files: dict[str, bytes] = {}
        self._packed: dict[str, bytes] = {}
        self._pages: list[Page] = []
        self._panels = Panels()

    def static(self, name: str) -> str:
        """Return the address of a file; it changes with what is in the file."""
        return f"/console/static/{hashlib.sha256(self._file(name)).hexdigest()[:12]}/{name}"

    def _file(self, name: str) -> bytes:
        """Return a file; read once, when it is first needed."""
        if name not in self._files:
            if name == "chart.js":
                place = files("chartkick").joinpath(_CHARTS)
            else:
                place = files("gateway.console").joinpath("static", name)
            self._files[name] = place.read_bytes()
        return self._files[name]

    def _compressed(self, name: str) -> bytes:
        """Return a file compressed, once; not before it is asked for, since no page has to wait for that."""
        if name not in self._packed:
            self._packed[name] = gzip.compress(self._file(name), 6, mtime=0)
        return self._packed[name]

    def router(self, pages: Sequence[Page]) -> APIRouter:
        """Return the routes of all pages."""
        self._pages = [*pages]
        self._templates.globals.update(pages=self._pages, static=self.static)
        routes = APIRouter(include_in_schema=False)

        @routes.get("/console/static/{digest}/{name}")
        def file(request: Request, digest: str, name: str) -> Response:
            own = [each for page in pages for each in (*page.scripts, *page.styles)]
            if name not in ("chart.js", "console.css", "console.js", "charts.js", *own):
                return Response("There is no such file.", 404, media_type="text/plain")
            headers = {**_HEADERS, "cache-control": _YEAR, "vary": "accept-encoding"}
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["content-encoding"] = "gzip"
                return Response(self._compressed(name), 200, headers, _TYPES[name.rpartition(".")[2]])
            return Response(self._file(name), 200, headers, _TYPES[name.rpartition(".")[2]])

        for page in self._pages:
            self._add(routes, page)
        return routes

    def _add(self, routes: APIRouter, page: Page) -> None:
        @routes.get(page.path)
        def shell(request: Request) -> Response:
            return self.page(request, page, **page.facts)

        @routes.get(f"/console/{page.name}/{{panel}}")
        async def panel(request: Request, panel: str) -> Response:
            if panel not in page.panels:
                return self._message("There is no such panel.", 404)
            parameters = request.query_params.multi_items()
            try:
                looked_at = view(parameters, page.filters)

                async def make() -> str:
                    context = await page.panels[panel](looked_at)
                    # In a thread: a long table takes some milliseconds, and its template is compiled first.
                    name = f"{page.name}/{panel}.html"
                    return await asyncio.to_thread(self.render, name, **context, view=looked_at, page=page)

                key = (page.name, panel, *(f"{name}={value}" for name, value in sorted(parameters)))
                patient = _PATIENT in request.headers.get("cache-control", "")
                made = await while_there(request, self._panels.get(key, make, patient=patient))
            except QueryError as error:
                return self._message(str(error), 400)
            except StoreOpening:  # no fault
                return self._message(_OPENING, 200, OPENING_SECS)
            except NotYet as error:
                return self._message(str(error), 200, OPENING_SECS)
            except GatewayError as error:
                return self._message(str(error), 503, LEAST_SECS)
            headers = _told(made.again_secs) | {"server-timing": _timing(made)}
            return Response(made.html, 200, headers, "text/html")

    def page(self, request: Request, page: Page, status: int = 200, **context: Any) -> Response:
        """Answer with a page that is still empty; with what is wrong in its address, if anything is."""
        problem = None
        try:
            looked_at = view(request.query_params.multi_items(), page.filters, self._default_range())
        except QueryError as error:
            problem, status = str(error), 400
            looked_at = view([], page.filters)
        text = self.render(
            f"{page.name}.html",
            page=page,
            view=looked_at,
            problem=problem,
            host=str(request.base_url).rstrip("/"),
            **context,
        )
        return Response(text, status, {**_HEADERS, "cache-control": "no-cache"}, "text/html")

    def render(self, template: str, **context: Any) -> str:
        """Return a template filled in."""
        return self._templates.get_template(template).render(**context)

    def _message(self, text: str, status: int, again_secs: float = MOST_SECS) -> Response:
        return Response(
            self.render("message.html", text=text, is_trouble=status >= 500), status, _told(again_secs), "text/html"
        )


def _told(again_secs: float) -> dict[str, str]:
    return {**_HEADERS, "cache-control": "no-store", "retry-after": f"{again_secs:.0f}"}


def _timing(made: Panel) -> str:
    """Return what a browser shows of where the time went."""
    parts = [f"panel;dur={made.spent_secs * 1000:.0f}"]
    parts += [f'store;dur={each.secs * 1000:.1f};desc="{_ODD.sub("?", each.what)}"' for each in made.questions]
    return ", ".join(parts)
