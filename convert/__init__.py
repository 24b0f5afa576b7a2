"""Converts bases and trained adapters to GGUF: merged or as adapters, quantized."""

import runtime.common.early  # noqa: F401  (Ctrl-C while a command of this package is imported)
