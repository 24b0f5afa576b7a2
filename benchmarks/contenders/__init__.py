"""The contenders of `benchmarks.peers`, one module each; each runs in its own process.

Modules of other engines import nothing of this project but `work`, which needs only the standard
library, so that they can run in another environment.
"""
