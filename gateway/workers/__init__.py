"""Several processes: receivers take events, the owner sends them; between them the spool and a local socket."""
