"""A gateway that takes JSON events over TCP and HTTP and indexes them into Elasticsearch, losing none."""

__version__ = "0.1.0"
