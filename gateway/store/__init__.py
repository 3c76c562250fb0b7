"""Where documents can be asked for: the embedded store, and the same questions put to Elasticsearch."""
