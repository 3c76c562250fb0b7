"""Sends events to the ML log gateway with acknowledgement: an event is forgotten when it is on the gateway's disk.

    from gateway_client import Client

    with Client() as gateway:
        gateway.send({"model_name": "churn", "prediction_confidence": 0.91})

It needs the standard library alone.
"""

from gateway_client.client import Client
from gateway_client.errors import ClientClosed, ClientFull
from gateway_client.handler import GatewayHandler
from gateway_client.stats import Stats

__all__ = ["Client", "ClientClosed", "ClientFull", "GatewayHandler", "Stats"]
