"""Ingestion over HTTP: bodies in, one answer that names every refusal."""
