"""Measures the pipeline beside other engines; README.md has the results."""
