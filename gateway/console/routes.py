"""All pages, and what each is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from gateway.console.asking import Asking
from gateway.console.dead_letters import Letters
from gateway.console.health import Health
from gateway.console.layout import Layout
from gateway.console.pages import dead_letters, events, logs, models, overview, quality, request, system, training
from gateway.console.view import DEFAULT_RANGE, RANGES
from gateway.monitoring.figures import Figures
from gateway.settings import Settings
from gateway.store.store import Store


def pages(
    settings: Settings, store: Callable[[], Store | None], health: Health, letters: Letters, kinds: Sequence[str]
) -> APIRouter:
    """Return their routes, in the order of the navigation; ``store`` gives None while it is being opened;
    ``kinds`` are the indices without prefix and day.
    """
    asking, prefix = Asking(store), settings.events.index_prefix
    routes = APIRouter()
    routes.include_router(models.router(settings, asking))
    shown = (
        overview.page(health, asking, prefix),
        models.page(settings, asking),
        training.page(asking, prefix),
        logs.page(asking, prefix, settings.monitoring.log_duration_unit),
        events.page(asking, prefix, kinds),
        request.page(asking, prefix),
        dead_letters.page(letters),
        quality.page(asking, prefix),
        system.page(settings, health.status, asking),
    )
    routes.include_router(Layout(lambda: range_of(health.figures)).router(shown))
    routes.include_router(request.router())
    return routes


def range_of(figures: Figures) -> str:
    """Return the stretch that pages begin with: a short one where the last hour has the events of minutes alone."""
    kept = figures.kept()
    minutes = kept.present - kept.first + 1
    return "15m" if 0 < minutes * 60 <= RANGES["15m"] else DEFAULT_RANGE
