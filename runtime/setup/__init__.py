"""From settings and files to engines.

Each file is tried in a process of its own (`trials`), its settings are tuned (`tuning`),
`placement` and `devices` decide where it runs, and `loading` loads it.
"""
