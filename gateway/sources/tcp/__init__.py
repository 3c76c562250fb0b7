"""JSON lines over TCP."""
