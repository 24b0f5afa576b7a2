"""Which form of a model's weights the CPU kernels of this build are fastest with.

llama.cpp copies quantized weights into an order of its own ("repacked"), which its kernels for
few tokens need. The kernel that scripts/patches adds reads K-quants as they are in the file, so
a file of those can stay mapped: no copy, and processes share it. Another of its kernels computes
attention, equally fast for any number of tokens.
"""

from __future__ import annotations

from pathlib import Path

from runtime.engine.ggml import library
from runtime.engine.library import cpu_features
from runtime.engine.weights import read_header

# Values of `enum ggml_type` (ggml.h) that are multiplied fast in repacked form only.
_NEED_REPACKING = {2: "Q4_0", 8: "Q8_0", 10: "Q2_K", 20: "IQ4_NL", 39: "MXFP4"}
# The share of its bytes that a file which stays mapped may have in those types.
_FEW = 0.1


def has_kquant_kernel() -> bool:
    """Whether this build has the patch, and was compiled for a CPU that it is for."""
    return "AVX512_VNNI" in cpu_features() and hasattr(library(), "ggml_kquant_vnni_mul_mat")


def has_attention_kernel() -> bool:
    """Whether this build has the patch for attention, and was compiled for a CPU that it is for."""
    return "AVX512" in cpu_features() and hasattr(library(), "ggml_attention_avx512")


def is_best_mapped(path: Path) -> bool:
    """Whether a model on the CPU is served best as it is in its file.

    Raises:
        EngineError: ggml cannot read the file.
    """
    if not has_kquant_kernel():
        return False
    header = read_header(path)
    slow = sum(n for name, n in header.sizes.items() if header.types[name] in _NEED_REPACKING)
    return slow <= _FEW * sum(header.sizes.values())
