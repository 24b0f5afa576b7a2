"""From routes to engines: devices, memory, damaged files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from algebra import Solver, available
from runtime.common.errors import SetupError
from runtime.common.machine import available_memory, cpus
from runtime.engine import (
    Engine,
    EngineError,
    EngineOptions,
    Model,
    check_gguf,
    describe_build,
    physical_cores,
)
from runtime.engine.sizing import PADDING_CELLS, cells_needed
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route
from runtime.retrieval import Retrieval, Use
from runtime.settings import Settings
from runtime.setup.placement import Placement, longest, wanted_cache
from runtime.setup.trials import Trials
from runtime.setup.tuning import tuned

log = logging.getLogger(__name__)

# The share of free memory that KV caches may take at most.
_MEMORY_SHARE = 0.8
# Question and template of most questions, in tokens.
_USUAL_PROMPT = 100


def adapter_name(route: Route) -> str | None:
    """The name under which a route's adapter is loaded; None for the bare model."""
    return str(route.adapter) if route.adapter else None


def load_solver(settings: Settings) -> Solver | None:
    """What computes exercises exactly; None if that is switched off or cannot be had."""
    wanted = any(subject.tool == "algebra" for subject in settings.subjects.values())
    if settings.algebra_tool == "off" or not wanted:
        return None
    if not available():
        log.warning(
            f"ALGEBRA_TOOL={settings.algebra_tool} needs sympy, which is not installed, so the"
            " model answers all of algebra: pip install 'subject-lora-serve[algebra]'"
        )
        return None
    try:
        return Solver()
    except OSError as error:  # no processes may be started here
        log.warning("exercises are not computed exactly: %s", error)
        return None


def load_retrieval(settings: Settings, routes: dict[str, Route]) -> Retrieval | None:
    """The knowledge of the subjects that use it; None if none does.

    Raises:
        SetupError: no such subject, or a base, index or gate that cannot be used.
    """
    uses: dict[str, Use] = {}
    for name, use in settings.rag_enabled_subjects.items():
        if not settings.subjects.knows(name):
            raise SetupError(
                f"RAG_ENABLED_SUBJECTS: {name[:80]!r} is no subject;"
                f" they are {', '.join(settings.subjects)}"
            )
        uses[settings.subjects.of(name).name] = use
    if not any(uses.values()):
        return None
    models = {subject: route.model.name for subject, route in routes.items()}
    folder = settings.rag_knowledge_base_dir
    return Retrieval.load(folder, uses, settings.rag_top_k, models)


def load_engines(
    settings: Settings,
    routes: dict[str, Route],
    files: ModelFiles,
    progress: Callable[[float], None] | None = None,
) -> dict[Path, Engine]:
    """An engine for each model file of the routes, with the adapters on it; the caller's.

    Raises:
        SetupError: no such device, or too little memory.
        EngineError: a file that llama.cpp cannot load.
    """
    placement = Placement(settings)
    log.info("llama.cpp: %s", describe_build())
    if not settings.num_threads:
        found = cpus()
        log.info("CPU threads of NUM_THREADS=0: %d (%s)", found.cores, found.reason)
    adapters: dict[Path, dict[str, Path]] = {}
    for route in routes.values():
        names = adapters.setdefault(route.model, {})
        if route.adapter is not None:
            names[str(route.adapter)] = route.adapter
    _refuse_too_large(list(adapters), placement.on_gpu)
    trials = Trials(settings.models_dir, files)
    for path, its_adapters in adapters.items():
        _refuse_crashing(trials, path, list(its_adapters.values()))
    free = _free_for_caches(list(adapters))
    with ExitStack() as stack:
        engines: dict[Path, Engine] = {}
        for path, its_adapters in adapters.items():
            own = tuned(settings, path, files)
            made = placement.place(own, path, list(its_adapters.values()))
            engine = Engine.load(
                path,
                partial(_options, own, free=None if made.gpu_layers else free),
                its_adapters,
                progress,
                made.gpu_layers,
                made.main_gpu,
            )
            placement.check(path, made)
            engines[path] = stack.enter_context(engine)
            log.info(
                "%s: %s, %d slots of %d tokens, %d threads, %s",
                path.name,
                engine.model.describe(),
                engine.layout.slots,
                engine.layout.cells,
                engine.options.threads,
                engine.model.profile.name,
            )
        stack.pop_all()
        return engines


def _options(settings: Settings, model: Model, free: float | None) -> EngineOptions:
    """How a model's engine runs, by the settings tuned for it; `free` bytes are there for its
    cache, None if llama.cpp knows."""
    least = cells_needed(settings.max_input_tokens, settings.longest_answer)
    if least > model.n_ctx_train:
        raise SetupError(
            f"MAX_INPUT_TOKENS={settings.max_input_tokens} and"
            f" {settings.longest_answer} new tokens (MAX_NEW_TOKENS times"
            f" MAX_TOKENS_MULTIPLIER) are too many: {model.path.name} was trained for"
            f" {model.n_ctx_train} positions, {PADDING_CELLS} of which are kept for padding"
        )
    wanted = wanted_cache(settings, model.cell_values)
    if free is not None and free < wanted:
        log.warning(
            "%.1f GiB of memory are free for the KV cache of %s, %.1f GiB are wanted: fewer"
            " questions are answered at once. KV_CACHE_TYPE=q8_0, smaller MAX_INPUT_TOKENS or"
            " MAX_NEW_TOKENS need less.",
            free / 2**30,
            model.path.name,
            wanted / 2**30,
        )
        wanted = free
    return EngineOptions(
        slots=settings.batch_size,
        # Where a subject's longer answers do not fit after the longest question they end earlier.
        cells_per_slot=min(longest(settings), model.n_ctx_train),
        threads=settings.num_threads or min(physical_cores(), model.profile.most_threads or 512),
        cache_type=settings.kv_cache_type,
        cache_bytes=int(wanted),
        call_tokens=settings.prefill_tokens,
        usual_cells=cells_needed(_USUAL_PROMPT, settings.longest_answer),
    )


def _refuse_crashing(trials: Trials, model: Path, adapters: list[Path]) -> None:
    """Raises EngineError for a model on which llama.cpp would end this process."""
    check_gguf(model)
    reason = trials.crash_reason(model, adapters)
    if reason:
        among = f" or an adapter on it ({', '.join(map(str, adapters))})"
        raise EngineError(
            f"{model}{among if adapters else ''} is damaged: llama.cpp crashes on it ({reason})"
        )


def _refuse_too_large(paths: list[Path], on_gpu: bool) -> None:
    """Say how much memory the model files need; raises SetupError if there is not so much."""
    needed = sum(path.stat().st_size for path in paths)
    log.info("%d model files need %.1f GiB for their weights", len(paths), needed / 2**30)
    free = available_memory()
    if needed > free and not on_gpu:  # of a GPU's memory llama.cpp will say
        raise SetupError(
            f"{len(paths)} model files need {needed / 2**30:.1f} GiB for their weights, but only"
            f" {free / 2**30:.1f} GiB of memory are free: serve adapters on one base instead"
            " (python -m convert.export_gguf --mode adapter)"
        )


def _free_for_caches(paths: list[Path]) -> float:
    """Bytes that the KV cache of each model may take; asked before any is loaded."""
    weights = sum(path.stat().st_size for path in paths)
    free = available_memory() * _MEMORY_SHARE
    return max(0.0, free - weights) / len(paths)
