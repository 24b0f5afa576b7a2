"""A trained adapter and its base become GGUF: merged or as an adapter, quantized."""
