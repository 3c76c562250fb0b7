"""What an event means: bytes in, one record out."""
