"""How calls are made up for a device, as a table, so that scheduler and engine need not know
where the layers are.

The CPU's figures are measured (lab/NOTES.md), and so is a GPU's shortlist, on an H200; a
GPU's other figures are reasoned from how llama.cpp's CUDA backend works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class DeviceProfile:
    """How calls are made up for a device."""

    name: str
    mixes_adapters: bool  # tokens with different adapters may share a call; else they take turns
    rows_at_once: int  # a call of more than two rows is padded to a multiple of it
    # Of how many of a row's likeliest tokens a call reports logits (see `shortlist`); 0 is all.
    shortlist: int = 0
    # Tokens of a sequence in a call from which on llama.cpp's own attention is several times faster
    # for each; 0: always. The kernel of scripts/patches has no such bound (see `kernels`).
    attention_tile: int = 0
    most_threads: int | None = None  # CPU threads that are of use; None is one for each core


# Its matrix kernels take four rows at a time, and each row left over costs nearly as much.
# 64 is GGML_FA_TILE_Q of ggml-cpu.
CPU = DeviceProfile("CPU", mixes_adapters=True, rows_at_once=4, attention_tile=64)
# The kernel for K-quants (see `kernels`) computes each row for itself.
MAPPED_CPU = replace(CPU, rows_at_once=1)
# Adapters take turns: rows of A x are masked in main memory, where a GPU's results are not.
# A step is bound by reading the weights, so a few idle rows cost little, while closing a gap
# copies a slot's cache to main memory and back, and each new number of rows makes llama.cpp plan
# (and capture, as a CUDA graph) anew: hence multiples of eight. The CPU looks up embeddings and
# waits.
GPU = DeviceProfile("GPU", mixes_adapters=False, rows_at_once=8, shortlist=32, most_threads=4)
# Some layers on each: the CPU's are the slow ones, so all its threads are used.
SPLIT = DeviceProfile("GPU and CPU", mixes_adapters=False, rows_at_once=8, shortlist=32)


def profile_for(gpu_layers: int, n_layers: int, mapped: bool = False) -> DeviceProfile:
    """The profile for a model of `n_layers`, of which `gpu_layers` (-1: all) are on GPUs."""
    if gpu_layers == 0:
        return MAPPED_CPU if mapped else CPU
    return GPU if gpu_layers < 0 or gpu_layers >= n_layers else SPLIT


def padded(n_rows: int, at_once: int = CPU.rows_at_once, least: int = 1) -> int:
    """How many rows to compute for `n_rows`, at least `least`; one or two are cheaper alone."""
    return max(least, n_rows if n_rows <= 2 else -(-n_rows // at_once) * at_once)
