"""Bodies of requests: their fields, types and bounds, and what they ask of an answer."""
