"""Predictions: how fast, how sure, how right, by model and where it runs."""

from gateway.console.pages.models.page import page
from gateway.console.pages.models.table import router

__all__ = ["page", "router"]
