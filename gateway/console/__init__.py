"""Pages and their JSON. Reads only."""
