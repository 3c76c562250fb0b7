"""The console's speed with a million events: what a person waits for, and what watching costs the events."""
