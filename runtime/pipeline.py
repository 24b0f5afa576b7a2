"""The way of a question: parse, prompt, route, complete, clean, in the order they came."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import llama_cpp
import psutil

from runtime.answers import clean
from runtime.engine import Context, Engine, EngineError, Model, Request, SamplingParams, Stats
from runtime.engine.engine import PADDING_CELLS, staging_slots
from runtime.engine.model import check_gguf, kv_bytes, physical_cores
from runtime.engine.probe import crash
from runtime.errors import SetupError
from runtime.locate import plan_routes
from runtime.offline import guard
from runtime.prompts import fit, frame
from runtime.questions import Question, parse
from runtime.routing import Route, describe, subject_of
from runtime.settings import Settings

log = logging.getLogger(__name__)

# The share of free memory that a KV cache may take.
_MEMORY_SHARE = 0.8
# No token is longer than this many characters where it matters; what goes beyond
# MAX_INPUT_TOKENS times that is cut before it is tokenized.
_CHARS_PER_TOKEN = 16


@dataclass(frozen=True)
class Answer:
    """The answer to `questions[index]`; `problem` says why there is none, else it is ""."""

    index: int
    question_id: Any
    answer: str
    problem: str = ""

    def record(self) -> dict[str, Any]:
        """What the evaluator wants."""
        return {"questionID": self.question_id, "answer": self.answer}


def loadPipeline(  # noqa: N802  (the evaluator's spelling)
    settings: Settings | None = None, progress: Callable[[float], None] | None = None
) -> Pipeline:
    """Load everything that answering needs; slow, once.

    Args:
        settings: by default those of the environment.
        progress: called with the share of the model that is loaded, 0.0 to 1.0.

    Raises:
        SetupError: a wrong knob, a missing file, too little memory.
        EngineError: a file that llama.cpp cannot load.
    """
    settings = settings or Settings.load()
    with ExitStack() as stack:
        stack.enter_context(guard(settings.offline_guard))
        routes = plan_routes(settings)
        log.info("routes:\n%s", describe(routes))
        if any(settings.rag_enabled_subjects.values()):
            log.warning("RAG_ENABLED_SUBJECTS is set, but retrieval is not built yet: not used")
        gpu = _device(settings.device_map)
        paths = list(dict.fromkeys(route.model for route in routes.values()))
        _refuse_too_large(paths, on_gpu=gpu[0] != 0)
        _refuse_crashing(routes)
        budget = _cache_budget(paths)
        engines: dict[Path, Engine] = {}
        for path in paths:
            engine = _load_engine(settings, path, gpu, budget, progress)
            engines[path] = stack.enter_context(engine)
        return Pipeline(settings, routes, engines, stack)


class Pipeline:
    """Answers lists of questions. Call it, and close it when done (or use it in a `with`).

    Calls from several threads are served one after another.
    """

    def __init__(
        self,
        settings: Settings,
        routes: dict[str, Route],
        engines: dict[Path, Engine],
        resources: ExitStack,
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.engines = engines
        self._lock = threading.Lock()
        self._holder: int | None = None  # the thread whose stream holds the lock
        self._frames = {
            subject: _roomy_frame(settings, engines[route.model].model, subject)
            for subject, route in routes.items()
        }
        self._params = SamplingParams(
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=min(settings.top_p, settings.top_p_cap),
            repetition_penalty=settings.repetition_penalty,
            min_new_tokens=settings.min_new_tokens,
            max_new_tokens=settings.longest_answer,
            stop=settings.stop,
        )
        for route in dict.fromkeys(routes.values()):
            if route.adapter is not None:
                engines[route.model].model.load_adapter(str(route.adapter), route.adapter)
        for subject, route in routes.items():
            head, _ = self._frames[subject]
            engines[route.model].share_prefix(head, _adapter_name(route))
        for engine in engines.values():
            engine.stats.reset()
        # From here on they are this pipeline's; had anything failed, the caller's still.
        self._resources = resources.pop_all()

    def __call__(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers, `{"questionID", "answer"}`, one for each question and in their order.

        A question that cannot be answered gets an answer that begins with "ERROR: " and
        says why; the log names it too.

        Raises:
            TypeError: `questions` is no list.
        """
        answers = sorted(self.stream(questions), key=lambda answer: answer.index)
        return [answer.record() for answer in answers]

    def stream(self, questions: Any) -> Iterator[Answer]:
        """The same answers as soon as each is there; `index` tells which it is.

        Until it is used up or closed the pipeline is busy; use it in the thread that
        began it.

        Raises:
            TypeError: `questions` is no list.
            SetupError: the pipeline has been closed, or this thread has another stream
                of it open.
        """
        parsed = parse(questions)
        with self._turn():
            requests: dict[Path, list[tuple[int, Request]]] = {}
            for index, question in enumerate(parsed):
                if question.problem:
                    yield _failed(index, question, question.problem)
                    continue
                if question.warning:
                    log.warning("question %s: %s", _name(index, question), question.warning)
                subject = subject_of(question.subject)
                try:
                    request = self._request(index, question, subject)
                except Exception as error:  # one bad question never costs the others
                    log.debug("question %s", _name(index, question), exc_info=True)
                    yield _failed(index, question, f"no prompt could be made of it ({error})")
                    continue
                requests.setdefault(self.routes[subject].model, []).append((index, request))
            for model, numbered in requests.items():
                for completion in self.engines[model].generate([r for _, r in numbered]):
                    index = numbered[completion.index][0]
                    question = parsed[index]
                    if completion.finish_reason == "error":
                        yield _failed(index, question, completion.error)
                    else:
                        cut = completion.finish_reason == "length"
                        text = clean(completion.text, question.text, cut)
                        yield Answer(index, question.id, text)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread is being answered."""
        me = threading.get_ident()
        if self._holder == me:
            raise SetupError("this pipeline is busy: use up or close the running stream() first")
        with self._lock:
            if not self.engines:
                raise SetupError("this pipeline has been closed")
            self._holder = me
            try:
                yield
            finally:
                self._holder = None

    @property
    def stats(self) -> Stats:
        """What the engines have done since loading, summed."""
        total = Stats()
        for engine in self.engines.values():
            for name, value in engine.stats.as_dict().items():
                setattr(total, name, getattr(total, name) + value)
        return total

    def close(self) -> None:
        """Free all models and lift the offline guard. A second call does nothing.

        Waits for other threads' calls; an open stream of this thread ends with an error.
        """
        mine = self._holder == threading.get_ident()
        with nullcontext() if mine else self._lock:
            self.engines = {}
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, index: int, question: Question, subject: str) -> Request:
        route = self.routes[subject]
        head, tail = self._frames[subject]
        limit = self.settings.max_input_tokens
        text, longest = question.text, limit * _CHARS_PER_TOKEN
        if len(text) > longest:
            text = text[: longest // 2] + text[-longest // 2 :]
        tokens = self.engines[route.model].model.tokenize(text, follows=True)
        prompt, cut = fit(head, tokens, tail, limit)
        if cut or len(text) < len(question.text):
            log.warning(
                "question %s: cut to MAX_INPUT_TOKENS=%d, its middle is lost",
                _name(index, question),
                limit,
            )
        return Request(
            prompt,
            self._params,
            seed=_seed(self.settings.seed, question),
            adapter=_adapter_name(route),
            group=subject,
        )


def _refuse_crashing(routes: dict[str, Route]) -> None:
    """Raises EngineError for a model on which llama.cpp would end this process."""
    adapters: dict[Path, list[Path]] = {}
    for route in dict.fromkeys(routes.values()):
        adapters.setdefault(route.model, []).extend([route.adapter] if route.adapter else [])
    for model, its_adapters in adapters.items():
        check_gguf(model)
        reason = crash(model, its_adapters)
        if reason:
            among = f" or an adapter on it ({', '.join(map(str, its_adapters))})"
            raise EngineError(
                f"{model}{among if its_adapters else ''} is damaged: llama.cpp crashes on it"
                f" ({reason})"
            )


def _refuse_too_large(paths: list[Path], on_gpu: bool) -> None:
    """Say how much memory the model files need; raises SetupError if there is not so much."""
    needed = sum(path.stat().st_size for path in paths)
    log.info("%d model files need %.1f GiB for their weights", len(paths), needed / 2**30)
    free = psutil.virtual_memory().available
    if needed > free and not on_gpu:  # of a GPU's memory llama.cpp will say
        raise SetupError(
            f"{len(paths)} model files need {needed / 2**30:.1f} GiB for their weights, but only"
            f" {free / 2**30:.1f} GiB of memory are free: serve adapters on one base instead"
            " (python -m convert.export_gguf --mode adapter)"
        )


def _cache_budget(paths: list[Path]) -> float:
    """Bytes that the KV cache of each model may take; asked before any is loaded."""
    weights = sum(path.stat().st_size for path in paths)
    free = psutil.virtual_memory().available * _MEMORY_SHARE
    return max(0.0, free - weights) / len(paths)


def _load_engine(
    settings: Settings,
    path: Path,
    gpu: tuple[int, int | None],
    budget: float,
    progress: Callable[[float], None] | None,
) -> Engine:
    gpu_layers, main_gpu = gpu
    model = Model(path, gpu_layers, main_gpu, progress)
    try:
        cells = settings.max_input_tokens + settings.longest_answer + PADDING_CELLS
        if cells > model.n_ctx_train:
            raise SetupError(
                f"MAX_INPUT_TOKENS={settings.max_input_tokens} and"
                f" {settings.longest_answer} new tokens (MAX_NEW_TOKENS times"
                f" MAX_TOKENS_MULTIPLIER) are too many: {path.name} was trained for"
                f" {model.n_ctx_train} positions, {PADDING_CELLS} of which are kept for padding"
            )
        slots = settings.batch_size
        if not gpu_layers:  # of a GPU's memory llama.cpp will say
            slots = _affordable_slots(slots, cells, model, budget)
        threads = settings.num_threads or physical_cores()
        while True:
            try:
                staging = staging_slots(slots)
                flash = settings.flash_attention
                context = Context(model, slots, staging, cells, threads, flash)
                break
            except EngineError:
                if slots == 1:
                    raise
                slots //= 2
                log.warning("BATCH_SIZE=%d does not fit: trying %d", settings.batch_size, slots)
        log.info(
            "%s: %s, %d slots of %d tokens, %d threads, %s",
            path.name,
            model.describe(),
            slots,
            context.cells_per_slot,
            threads,
            "GPU" if gpu_layers else "CPU",
        )
        return Engine(model, context)
    except BaseException:
        model.close()
        raise


def _device(device_map: str) -> tuple[int, int | None]:
    """DEVICE_MAP as (layers to offload, GPU index or None)."""
    has_gpu = bool(llama_cpp.llama_supports_gpu_offload())
    if device_map == "cpu" or (device_map == "auto" and not has_gpu):
        return 0, None
    if not has_gpu:
        raise SetupError(
            f"DEVICE_MAP={device_map}: this llama.cpp was built without GPU support; use cpu or"
            " auto, or reinstall llama-cpp-python with CMAKE_ARGS=-DGGML_CUDA=on"
        )
    _, _, number = device_map.partition(":")
    return -1, int(number) if number else None


def _affordable_slots(wanted: int, cells: int, model: Model, budget: float) -> int:
    """As many slots as asked for, or as many as fit the budget, in bytes."""
    slots = wanted
    while slots > 1 and kv_bytes(model, slots + staging_slots(slots), cells) > budget:
        slots -= 1
    if slots < wanted:
        log.warning(
            "BATCH_SIZE=%d needs a KV cache of %.1f GiB, but %.1f GiB of memory are to be had:"
            " %d slots are used. Smaller MAX_INPUT_TOKENS or MAX_NEW_TOKENS allow more.",
            wanted,
            kv_bytes(model, wanted + staging_slots(wanted), cells) / 2**30,
            budget / 2**30,
            slots,
        )
    return slots


def tokenized_frame(model: Model, subject: str) -> tuple[list[int], list[int]]:
    """Token ids of what comes before and after a subject's questions. Raises SetupError."""
    template = model.metadata("tokenizer.chat_template")
    rendered = frame(template, subject, model.special_text("bos"), model.special_text("eos"))
    head = model.tokenize(rendered.head, special=True)
    tail = model.tokenize(rendered.tail, special=True, follows=True)
    bos = model.bos_to_add
    if bos is not None and head[:1] != [bos]:
        head = [bos, *head]
    return head, tail


def _roomy_frame(settings: Settings, model: Model, subject: str) -> tuple[list[int], list[int]]:
    """The same, if it leaves room for a question."""
    head, tail = tokenized_frame(model, subject)
    if len(head) + len(tail) + 1 > settings.max_input_tokens:
        raise SetupError(
            f"MAX_INPUT_TOKENS={settings.max_input_tokens} leaves no room for a question:"
            f" the template for {subject} alone takes {len(head) + len(tail)} tokens"
        )
    return head, tail


def _adapter_name(route: Route) -> str | None:
    return str(route.adapter) if route.adapter else None


def _seed(base: int, question: Question) -> int:
    """A seed that depends on the question's id alone, not on its neighbours."""
    text = f"{base} {question.key}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _failed(index: int, question: Question, problem: str) -> Answer:
    log.error("question %s: not answered: %s", _name(index, question), problem)
    return Answer(index, question.id, f"ERROR: not answered: {problem}", problem)


def _name(index: int, question: Question) -> str:
    return f"{index + 1} ({question.key[:80]})"
