"""Knowledge bases: made of raw files (preprocess), and when to use them (calibrate)."""

import runtime.common.early  # noqa: F401  (Ctrl-C while a command of this package is imported)
