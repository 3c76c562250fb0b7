"""What comes in, looked at while it comes. Reads the spool, never holds it up."""
