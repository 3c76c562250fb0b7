"""`gateway generate`: realistic events for a gateway, as a batch or at a rate."""

from gateway.cli.generate.command import generate

__all__ = ["generate"]
