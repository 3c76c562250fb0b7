"""What the gateway costs: events a second, and CPU seconds for a million events. Run with ``python -m benchmarks``."""
