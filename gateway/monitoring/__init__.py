"""What an ML team looks at: events in figures, what follows from them, and what comes in while it comes.

Reads records, never holds them up.
"""
