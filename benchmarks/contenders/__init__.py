"""What `benchmarks.peers` sets side by side, one page each, each run in a process of its own.

Pages of other people's engines import nothing of this project but `work`, which needs the standard
library alone, so that they run in an environment of their own.
"""
