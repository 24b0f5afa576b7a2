"""A trained adapter and its base become GGUF: merged or as an adapter, quantized."""

from runtime.common.extras import require

require("converting", "convert", "gguf", "transformers")
