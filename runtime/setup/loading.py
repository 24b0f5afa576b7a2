"""From routes to engines, and what else a pipeline is loaded with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from algebra import Solver, available
from runtime.common.errors import SetupError
from runtime.common.machine import cpus
from runtime.engine import Engine, EngineOptions, Model, describe_build
from runtime.engine.context import CACHE_BYTES
from runtime.engine.sizing import PADDING_CELLS, cells_needed, longest_slot
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route
from runtime.retrieval import Retrieval, Use
from runtime.settings import Settings
from runtime.setup.devices import Plan
from runtime.setup.placement import Placement, Served, longest, usual, watched
from runtime.setup.trials import Trials
from runtime.setup.tuning import tuned

log = logging.getLogger(__name__)


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
                f"RAG_ENABLED_SUBJECTS: {name[:80]!r} is not a subject;"
                f" they are {', '.join(settings.subjects)}"
            )
        uses[settings.subjects.of(name).name] = use
    if not any(uses.values()):
        return None
    served = {
        subject: (route.model.name, route.adapter.name if route.adapter else "")
        for subject, route in routes.items()
    }
    return Retrieval.load(settings.rag_knowledge_base_dir, uses, settings.rag_top_k, served)


def load_engines(
    settings: Settings,
    routes: dict[str, Route],
    files: ModelFiles,
    progress: Callable[[float], None] | None = None,
) -> dict[Path, Engine]:
    """An engine for each model file of the routes, with its adapters; the caller closes them.

    `progress` is called with the share of a model that is loaded, 0.0 to 1.0.

    Raises:
        SetupError: no such device, or too little memory.
        EngineError: a file that llama.cpp cannot load.
    """
    log.info("llama.cpp: %s", describe_build())
    if not settings.num_threads:
        found = cpus()
        log.info("CPU threads of NUM_THREADS=0: %d (%s)", found.cores, found.reason)
    models = _adapters_by_model(routes)
    placement = Placement(settings, list(models))
    trials = Trials(settings.models_dir, files)
    for path, adapters in models.items():
        trials.refuse_crashing(path, adapters)
    served = [Served(path, tuned(settings, path, files), models[path]) for path in models]
    engines: dict[Path, Engine] = {}
    with ExitStack() as stack:
        for each, made in zip(served, placement.place(served), strict=True):
            with watched(each.path, made):
                engine = stack.enter_context(_load(each, made, progress))
            engines[each.path] = engine
            log.info(
                "%s: %s, %d slots of %d tokens, %d threads, %s",
                each.path.name,
                engine.model.describe(),
                engine.layout.slots,
                engine.layout.cells,
                engine.options.threads,
                engine.model.profile.name,
            )
        stack.pop_all()
        return engines


def _adapters_by_model(routes: dict[str, Route]) -> dict[Path, tuple[Path, ...]]:
    """The model files of the routes, each with the adapters on it."""
    models: dict[Path, dict[Path, None]] = {}
    for route in routes.values():
        adapters = models.setdefault(route.model, {})
        if route.adapter is not None:
            adapters[route.adapter] = None
    return {path: tuple(adapters) for path, adapters in models.items()}


def _load(served: Served, made: Plan, progress: Callable[[float], None] | None) -> Engine:
    """The engine of a model that was placed."""
    adapters = {str(path): path for path in served.adapters}
    model = Model(served.path, made.gpu_layers, made.main_gpu, progress)
    try:
        return Engine(model, engine_options(served.settings, model, made), adapters)
    except BaseException:
        model.close()
        raise


def engine_options(settings: Settings, model: Model, made: Plan) -> EngineOptions:
    """How the engine of a loaded model runs, with settings as tuned for it.

    Raises:
        SetupError: a usual question and answer are longer than the model was trained for.
    """
    least = cells_needed(settings.max_input_tokens, settings.longest_answer)
    if least > model.n_ctx_train:
        raise SetupError(
            f"MAX_INPUT_TOKENS={settings.max_input_tokens} and"
            f" {settings.longest_answer} new tokens (MAX_NEW_TOKENS times"
            f" MAX_TOKENS_MULTIPLIER) are too many: {model.path.name} was trained for"
            f" {model.n_ctx_train} positions, {PADDING_CELLS} of which are kept for padding"
        )
    cells = longest(settings)
    if settings.max_model_len < 0:
        cell_bytes = model.cell_values * CACHE_BYTES[settings.kv_cache_type]
        cells = max(cells, longest_slot(int(made.cache_bytes / cell_bytes)))
    return EngineOptions(
        slots=settings.batch_size,
        # Where a subject's longer answers do not fit after the longest question they end earlier.
        cells_per_slot=min(cells, model.n_ctx_train),
        threads=settings.num_threads or min(cpus().cores, model.profile.most_threads or 512),
        cache_type=settings.kv_cache_type,
        cache_bytes=made.cache_bytes,
        call_tokens=settings.prefill_tokens,
        prefix_bytes=made.prefix_bytes,
        batch_invariant=settings.batch_invariant,
        stream_gap=settings.stream_gap_ms / 1000,
        usual_cells=usual(settings),
    )
