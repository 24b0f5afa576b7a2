"""The attention kernel that scripts/patches adds to llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engine.kernels import has_attention_kernel
from runtime.settings import PROJECT_DIR
from tests import attentions

pytestmark = pytest.mark.skipif(
    not (attentions.has_kernel() and has_attention_kernel()),
    reason="llama.cpp was built without this project's patches, or not for AVX-512",
)

JOB: dict[str, Any] = {"streams": 1, "threads": 2, "dead": 100, "keys": 512}
SHAPES = [(9, 3, 64), (4, 2, 128), (3, 3, 96), (8, 1, 80), (14, 2, 64), (1, 1, 16)]


def attend(out: Path, job: dict[str, Any], ours: bool = True) -> dict[str, np.ndarray]:
    """The attention of a job, with the kernel or without it."""
    subprocess.run(
        [sys.executable, "-m", "tests.attentions", str(out), json.dumps(JOB | job)],
        env=os.environ | {"GGML_ATTENTION_AVX512": str(int(ours))},
        cwd=PROJECT_DIR,
        check=True,
        capture_output=True,
    )
    with np.load(out) as found:
        return dict(found)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), SHAPES)
def test_attention_is_exact_but_for_rounding(
    tmp_path: Path, heads: int, kv_heads: int, size: int
) -> None:
    shape = {"heads": heads, "kv_heads": kv_heads, "size": size}
    for tokens, streams in ((1, 1), (1, 4), (2, 1), (7, 3), (41, 1), (64, 1), (130, 2)):
        sizes = {"tokens": tokens, "streams": streams}
        result = attend(tmp_path / "ours.npz", shape | sizes)
        assert np.abs(result["found"] - result["exact"]).max() < 1e-5
    theirs = attend(tmp_path / "theirs.npz", shape | {"tokens": 1}, ours=False)
    assert np.abs(theirs["found"] - theirs["exact"]).max() > 1e-5  # they add in 16 bits


@pytest.mark.parametrize(("heads", "kv_heads", "size"), SHAPES[:3])
def test_a_token_depends_neither_on_the_others_nor_on_threads(
    tmp_path: Path, heads: int, kv_heads: int, size: int
) -> None:
    shape = {"heads": heads, "kv_heads": kv_heads, "size": size}
    whole = attend(tmp_path / "whole.npz", shape | {"tokens": 150, "streams": 3})["found"]
    for tokens, streams, threads in ((1, 1, 1), (1, 3, 3), (5, 2, 2), (48, 1, 1), (97, 1, 5)):
        sizes = {"tokens": tokens, "streams": streams, "threads": threads}
        part = attend(tmp_path / "part.npz", shape | sizes)["found"]
        assert (part == whole[:streams, -tokens:]).all()
