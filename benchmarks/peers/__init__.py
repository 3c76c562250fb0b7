"""Other programs that do the same work: their configurations, and how each is found, checked and started."""
