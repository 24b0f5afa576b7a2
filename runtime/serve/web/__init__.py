"""Connections, limits, keys and request ids: what comes before the routes."""
