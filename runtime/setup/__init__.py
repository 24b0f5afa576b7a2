"""From settings and files to engines.

Each file is tried in a process of its own (`trials`), its settings are tuned (`tuning`), and a
place is found for it on GPUs or in memory (`placement`, which `devices` decides); then it is loaded
(`loading`).
"""
