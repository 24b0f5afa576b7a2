"""Tools in requests, and calls of tools in answers."""
