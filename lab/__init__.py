"""Experiments (lab/NOTES.md), and how the demo's corpora were made. Run from a checkout."""
