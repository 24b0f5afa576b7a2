"""Experiments with a date, a machine and a verdict: `lab/NOTES.md`. Run from a checkout."""
