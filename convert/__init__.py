"""A trained adapter and its base become GGUF: merged or as an adapter, quantized."""

import runtime.common.early  # noqa: F401  (Ctrl-C while a command of this package is imported)
