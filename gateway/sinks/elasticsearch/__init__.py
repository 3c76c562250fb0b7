"""Documents to Elasticsearch: bulk bodies, verdicts, templates, the sink that joins them."""
