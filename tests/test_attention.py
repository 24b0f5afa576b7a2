"""The attention kernel that scripts/patches adds to llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engine.kernels import has_attention_kernel
from runtime.settings import PROJECT_DIR

pytestmark = pytest.mark.skipif(
    not has_attention_kernel(),
    reason="llama.cpp was built without this project's patches, or not for AVX-512",
)

JOB: dict[str, Any] = {"streams": 1, "threads": 2, "dead": 100, "keys": 512}
SHAPES = [
    {"heads": heads, "kv_heads": kv_heads, "size": size}
    for heads, kv_heads, size in (
        *((9, 3, 64), (4, 2, 128), (3, 3, 96)),
        *((8, 1, 80), (14, 2, 64), (1, 1, 16)),
    )
]


def attend(
    out: Path, jobs: list[dict[str, Any]], ours: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is found for each job, with the kernel or without it, and what is right."""
    subprocess.run(
        [sys.executable, "-m", "tests.attentions", str(out), json.dumps([JOB | j for j in jobs])],
        env=os.environ | {"GGML_ATTENTION_AVX512": str(int(ours))},
        cwd=PROJECT_DIR,
        check=True,
        capture_output=True,
    )
    with np.load(out) as found:
        return [(found[f"found {n}"], found[f"exact {n}"]) for n in range(len(jobs))]


def test_attention_is_exact_but_for_rounding(tmp_path: Path) -> None:
    sizes = [(1, 1), (1, 4), (2, 1), (7, 3), (41, 1), (64, 1), (130, 2)]
    jobs = [shape | {"tokens": n, "streams": of} for shape in SHAPES for n, of in sizes]
    for job, (found, exact) in zip(jobs, attend(tmp_path / "ours.npz", jobs), strict=True):
        assert np.abs(found - exact).max() < 1e-5, job


def test_without_the_kernel_llama_cpp_adds_in_16_bits(tmp_path: Path) -> None:
    job = {"heads": 9, "kv_heads": 3, "size": 64, "tokens": 1}
    ((found, exact),) = attend(tmp_path / "theirs.npz", [job], ours=False)
    assert 1e-5 < np.abs(found - exact).max() < 1e-2


def test_a_token_depends_neither_on_the_others_nor_on_threads(tmp_path: Path) -> None:
    sizes = [(150, 3, 2), (1, 1, 1), (1, 3, 3), (5, 2, 2), (48, 1, 1), (97, 1, 5)]
    jobs = [
        shape | {"tokens": n, "streams": of, "threads": by}
        for shape in SHAPES[:3]
        for n, of, by in sizes
    ]
    found = iter(attend(tmp_path / "found.npz", jobs))
    for shape in SHAPES[:3]:
        (whole, _), *parts = islice(found, len(sizes))
        for (tokens, streams, _), (part, _) in zip(sizes[1:], parts, strict=True):
            assert (part == whole[:streams, -tokens:]).all(), (shape, tokens)
