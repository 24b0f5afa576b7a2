"""The kernels that scripts/patches adds to llama.cpp compute what llama.cpp computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engine import Engine, EngineOptions, Model
from runtime.engine.kernels import has_kquant_kernel, is_best_mapped
from runtime.engine.library import cpu_features
from tests import products

pytestmark = pytest.mark.skipif(
    not has_kquant_kernel(),
    reason="llama.cpp was built without this project's patches, or not for AVX-512",
)

LAYOUTS = [("Q4_K", True), ("Q4_K", False), ("Q5_K", False), ("Q6_K", False)]
INSTRUCTIONS = ["VNNI", "AMX"] if "AMX_INT8" in cpu_features() else ["VNNI"]
Job = dict[str, Any]


def jobs(columns: list[int], *shapes: tuple[int, int, int]) -> list[Job]:
    """A job for each layout and shape, which is (k, rows, threads)."""
    return [
        {"type": kind, "repacked": repacked, "columns": columns}
        | {"k": k, "rows": rows, "threads": threads}
        for kind, repacked in LAYOUTS
        for k, rows, threads in shapes
    ]


JOBS = jobs([*range(1, 14), 24, 25, 61, 130], (256, 16, 1), (1024, 208, 2), (2048, 64, 3))


def multiply(
    out: Path, jobs: list[Job], least: int, amx: bool = True
) -> list[dict[str, np.ndarray]]:
    """The products of each job, with the kernel for `least` columns and more; 0 is without it."""
    script = products.__file__ or ""
    subprocess.run(
        [sys.executable, script, str(out), json.dumps(jobs)],
        env=os.environ | {"GGML_KQUANT_VNNI": str(least), "GGML_KQUANT_AMX": str(int(amx))},
        check=True,
        capture_output=True,
    )
    found: list[dict[str, np.ndarray]] = [{} for _ in jobs]
    with np.load(out) as archive:
        for key, values in archive.items():
            place, _, name = key.partition(" ")
            found[int(place)][name] = values
    return found


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """The products of llama.cpp's own kernels."""
    return multiply(tmp_path_factory.mktemp("theirs") / "theirs.npz", JOBS, 0)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_products_are_llama_cpps_but_for_rounding(
    tmp_path: Path, theirs: list[dict[str, np.ndarray]], instructions: str
) -> None:
    found = multiply(tmp_path / "ours.npz", JOBS, 1, instructions == "AMX")
    for job, a, b in zip(JOBS, found, theirs, strict=True):
        for n in map(str, job["columns"]):
            size = b[n].std(axis=1, keepdims=True)
            assert np.abs(a[n] - b[n]).max() <= 1e-4 * size.max(), (job, n)
            assert (np.abs(a[n] - b[n]) <= 1e-4 * size).all(), (job, n)
        # And both are the product, as far as activations of 8 bits allow.
        exact = b["exact"]
        assert (np.abs(a["130"] - exact) <= 0.06 * exact.std(axis=1, keepdims=True)).all(), job


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_a_column_does_not_depend_on_the_others_nor_on_threads(
    tmp_path: Path, instructions: str
) -> None:
    asked = jobs([2, 3, 7, 12, 13, 17, 40, 100], (1024, 96, 1), (1024, 96, 3))
    found = multiply(tmp_path / "found.npz", asked, 2, instructions == "AMX")
    for job, one, more in zip(asked[::2], found[::2], found[1::2], strict=True):
        for n in job["columns"]:
            assert (one[str(n)] == one["100"][:n]).all(), (job, n)
            assert (one[str(n)] == more[str(n)]).all(), (job, n)


@pytest.fixture(scope="module")
def k_quants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights, with rows that K-quants can hold."""
    from convert.export_gguf import main
    from tests.checkpoints import save_checkpoint, tiny_tokenizer

    folder = tmp_path_factory.mktemp("k-quants")
    sizes = {"hidden_size": 256, "intermediate_size": 512}
    base = save_checkpoint(folder / "tiny", "qwen3", tiny_tokenizer(), **sizes)
    assert main(["--base", str(base), "--output", str(folder), "--mode", "adapter"]) == 0
    return folder / "tiny-Q4_K_M.gguf"


def likelihoods(path: Path, mapped: bool) -> np.ndarray:
    """Of tokens after prompts, in calls of several lengths, in nats."""
    model = Model(path, mapped=mapped)
    with Engine(model, EngineOptions(slots=4, cells_per_slot=256)) as engine:
        texts = [list(range(30, 30 + n)) for n in (1, 2, 5, 12, 13, 40, 77)]
        return np.concatenate(engine.log_likelihoods([7, 8, 9], texts))


def test_a_model_of_k_quants_stays_in_its_file_which_processes_share(
    k_quants: Path, demo_model: Path
) -> None:
    with Engine.load(k_quants, EngineOptions(slots=2, cells_per_slot=256)) as engine:
        assert engine.model.mapped
        maps = Path("/proc/self/maps")
        assert not maps.exists() or str(k_quants) in maps.read_text()
    assert not is_best_mapped(demo_model)  # whose kernels want another order of the weights


def test_what_is_likely_is_the_same_mapped_and_repacked_but_for_rounding(k_quants: Path) -> None:
    found, repacked = (likelihoods(k_quants, mapped) for mapped in (True, False))
    assert np.ptp(repacked) > 1
    # Activations are rounded to 8 bits between layers, which turns the last bit of a sum into up
    # to 0.1 nats of this model; llama.cpp's own kernels differ by as much from one another.
    assert np.abs(found - repacked).mean() < 0.03
    assert np.abs(found - repacked).max() < 0.5
