"""Trains a LoRA adapter for each subject, offline."""

import runtime.common.early  # noqa: F401  (Ctrl-C while a command of this package is imported)
