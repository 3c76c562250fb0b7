"""What an operator asks of the whole gateway: each asks several rooms at once, and decides nothing about events."""
