"""How bytes come in. A source hands blocks of lines to the intake and knows nothing behind it."""
