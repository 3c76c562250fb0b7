"""The promise on disk: what was accepted is here until every sink has taken it."""
