"""`python -m runtime.tune`: find what makes the model of MODEL_NAME fastest here.

MODEL_NAME=demo python -m runtime.tune           # some minutes
MODEL_NAME=demo python -m runtime.tune --show    # only what was found before

Times single llama.cpp calls: threads, tokens of a prefill call, slots, and what an 8-bit KV cache
would bring, which is not chosen, as it changes answers. What is found goes into
MODELS_DIR/tuning.json, which loading a pipeline reads; a setting in the environment stays
as it is. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common import command

if TYPE_CHECKING:
    from runtime.engine import Model
    from runtime.engine.speeds import SingleCalls
    from runtime.settings import Settings

CALL_TOKENS = (64, 128, 256, 512)
SLOTS = (4, 8, 16, 24, 32, 48, 64, 96, 128)
# A smaller value with at least this share of the best speed is preferred.
NEAR = 0.97
# The share of free memory that a KV cache may take while measuring.
MEMORY = 0.5
# The position in the context at which a usual answer is decoded.
DEPTH = 100
CELLS = 256  # of a slot for that, as llama.cpp rounds them
_ROUNDS = 2  # how often each value is measured
A_FEW = 16  # sequences for comparing numbers of threads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m runtime.tune",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--show", action="store_true", help="measure nothing")
    return command.run(_tune_all, parser.parse_args(arguments), "stopped; nothing was noted")


def _tune_all(options: argparse.Namespace) -> int:
    # Only now, so that --help needs no library.
    from runtime.files.manifest import ModelFiles
    from runtime.files.routes import plan_routes
    from runtime.settings import Settings
    from runtime.setup.tuning import keep, tuned

    settings = Settings.load()
    files = ModelFiles()
    for path in sorted({route.model for route in plan_routes(settings, files).values()}):
        if not options.show:
            found, measured = tune(path, settings)
            print(report(path, measured))
            print(f"noted in {keep(settings.models_dir, path, found, measured, files)}")
        served = tuned(settings, path, files)
        print(
            f"{path.name} is served with BATCH_SIZE={served.batch_size}"
            f" NUM_THREADS={served.num_threads} PREFILL_TOKENS={served.prefill_tokens}"
            f" KV_CACHE_TYPE={served.kv_cache_type}"
        )
    return 0


def tune(path: Path, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure a model; (values of the settings, what was measured in tokens per second).

    Raises:
        EngineError: llama.cpp cannot load the file, or a call failed.
    """
    from tqdm import tqdm

    from runtime.common.machine import cpus
    from runtime.engine import Model
    from runtime.engine.speeds import SingleCalls
    from runtime.setup.placement import Placement, Served

    (made,) = Placement(settings, [path]).place([Served(path, settings)])
    cores = sorted({cpus().cores, cpus().logical})
    model = Model(path, made.gpu_layers, made.main_gpu)
    slots_to_try = _affordable(model)
    tried = len(cores) + len(CALL_TOKENS) + len(slots_to_try)
    bar = tqdm(total=_ROUNDS * tried + 1, desc=path.name, disable=None)
    try:

        def calls(slots: int, threads: int, cache: Any = "f16") -> SingleCalls:
            return SingleCalls(model, slots, CELLS, threads, max(CALL_TOKENS), cache)

        def speed_of_threads(n: int) -> float:
            """For a usual question and an answer of the same length."""
            bar.update()
            with calls(A_FEW, n) as these:
                prefill = these.prefill(1, max(CALL_TOKENS) // 2, repeats=2)
                return 2 / (1 / prefill + 1 / these.decode(A_FEW, DEPTH))

        threads, by_threads = _choose(cores, speed_of_threads)

        with SingleCalls(model, 1, max(CALL_TOKENS), threads, max(CALL_TOKENS)) as one:

            def speed_of_call(length: int) -> float:
                bar.update()
                return one.prefill(1, length, repeats=2)

            call_tokens, by_call = _choose(CALL_TOKENS, speed_of_call)

        def speed_of_slots(n: int, cache: Any = "f16") -> float:
            bar.update()
            with calls(n, threads, cache) as these:
                return these.decode(n, DEPTH)

        slots, by_slots = _choose(slots_to_try, speed_of_slots)
        eight_bits = speed_of_slots(slots, "q8_0")
    finally:
        bar.close()
        model.close()
    found = {"num_threads": threads, "prefill_tokens": call_tokens, "batch_size": slots}
    measured = {
        "num_threads": by_threads,
        "prefill_tokens": by_call,
        "batch_size": by_slots,
        "kv_cache_type": {"f16": by_slots[slots], "q8_0": round(eight_bits, 1)},
    }
    return found, measured


def _affordable(model: Model) -> list[int]:
    """The numbers of slots whose KV cache fits into memory; at least the first."""
    from runtime.common.machine import available_memory
    from runtime.engine.context import CACHE_BYTES

    slot_bytes = model.cell_values * CACHE_BYTES["f16"] * CELLS
    most = MEMORY * available_memory() / slot_bytes
    return [n for n in SLOTS if n <= most] or [SLOTS[0]]


def _choose(values: Iterable[int], speed: Callable[[int], float]) -> tuple[int, dict[int, float]]:
    """The smallest value that is nearly the fastest, and the speeds of all.

    Each is measured in two rounds, and the faster one counts: other work only slows a machine.
    """
    speeds = dict.fromkeys(values, 0.0)
    for value in [*speeds] * _ROUNDS:
        speeds[value] = max(speeds[value], round(speed(value), 1))
    best = max(speeds.values())
    return min(value for value in speeds if speeds[value] >= NEAR * best), speeds


def report(path: Path, measured: dict[str, Any]) -> str:
    """What was measured, a line for each setting."""
    lines = [f"{path.name}, tokens per second:"]
    for name, speeds in measured.items():
        found = ", ".join(f"{value}: {speed:.0f}" for value, speed in speeds.items())
        lines.append(f"  {name.upper():<15} {found}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
