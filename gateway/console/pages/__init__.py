"""The pages of the console, a file each: what its panels ask, and what their templates are given."""
