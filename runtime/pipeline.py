"""Lists of questions in, lists of answers out."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from algebra import Solver
from runtime.cache import AnswerCache, Keys
from runtime.common.errors import SetupError
from runtime.common.forks import Maker
from runtime.common.offline import guard
from runtime.engine import Engine, Stats
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route, describe, plan_routes
from runtime.overrides import Overrides
from runtime.questions import Question, parse
from runtime.retrieval import Retrieval
from runtime.settings import Settings
from runtime.setup.loading import load_engines, load_retrieval, load_solver
from runtime.way import Answer, Asked, Way

__all__ = ["Answer", "Pipeline", "loadPipeline"]

log = logging.getLogger(__name__)


def loadPipeline(  # noqa: N802  (the contest's spelling)
    settings: Settings | None = None, progress: Callable[[float], None] | None = None
) -> Pipeline:
    """Load everything that answering needs: slow, done once.

    Args:
        settings: by default those of the environment.
        progress: called with the share of the model that is loaded, 0.0 to 1.0.

    Raises:
        SetupError: a wrong setting, a missing file, too little memory.
        EngineError: a file that llama.cpp cannot load.
    """
    settings = settings or Settings.load()
    with ExitStack() as stack:
        stack.enter_context(guard(settings.offline_guard))
        files = ModelFiles()
        routes = plan_routes(settings, files)
        log.info("routes:\n%s", describe(routes))
        retrieval = load_retrieval(settings, routes)
        solver = load_solver(settings)
        if solver is not None:
            stack.callback(solver.close)
        cache = None
        if settings.answer_cache:
            cache = AnswerCache(settings.answer_cache)
            stack.callback(cache.close)
        engines = load_engines(settings, routes, files, progress)
        for engine in engines.values():
            stack.callback(engine.close)
        pipeline = Pipeline(settings, routes, engines, solver, retrieval, cache, files)
        pipeline.closing(stack.pop_all().close)
        return pipeline


class Pipeline:
    """Answers lists of questions. Call it, and close it when done (or use it in a `with`).

    A pipeline that is garbage collected is closed, too. Calls from several threads are served one
    after another. A process forked from the one that loaded it cannot use it, and gets an error.

    Attributes:
        engines: by model file.
        answer_seconds: for each question of the last call, when its answer was ready, in
            seconds from the start of the call.
    """

    def __init__(
        self,
        settings: Settings,
        routes: dict[str, Route],
        engines: dict[Path, Engine],
        solver: Solver | None = None,
        retrieval: Retrieval | None = None,
        cache: AnswerCache | None = None,
        files: ModelFiles | None = None,
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.engines = engines
        self.answer_seconds: list[float] = []
        options = {path: engine.options for path, engine in engines.items()}
        keys = Keys(routes.values(), options, files or ModelFiles())
        models = {path: engine.model for path, engine in engines.items()}
        self.way = Way(settings, routes, models, keys, solver, retrieval, cache)
        self._close: Callable[[], object] = lambda: None
        self._maker = Maker()
        self._lock = threading.Lock()
        self._holder: int | None = None  # the thread whose stream holds the lock
        for path, engine in engines.items():
            served = [(s, route) for s, route in routes.items() if route.model == path]
            engine.share_prefixes(
                [(route.adapter_name, self.way.frames[subject].head) for subject, route in served]
            )
            engine.stats.reset()

    def closing(self, close: Callable[[], None]) -> None:
        """Have `close` called, once, when this pipeline is closed or dropped."""
        finalizer = weakref.finalize(self, close)
        finalizer.atexit = False  # a forked child that exits must not end what its parent uses
        self._close = finalizer

    def __call__(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers, `{"questionID", "answer"}`, one for each question and in their order.

        A question that cannot be answered gets "ERROR: " and the reason; the log names it too.

        Raises:
            TypeError: `questions` is not a list.
        """
        started = time.perf_counter()
        answers: dict[int, Answer] = {}
        seconds: dict[int, float] = {}
        for answer in self.stream(questions):
            answers[answer.index] = answer
            seconds[answer.index] = time.perf_counter() - started
        self.answer_seconds = [seconds[index] for index in range(len(answers))]
        return [answers[index].record() for index in range(len(answers))]

    def log_likelihoods(self, question: dict[str, Any], answers: list[str]) -> list[float]:
        """How likely each of some answers to a question is for the model that serves it.

        Returns:
            for each answer the sum of its tokens' log-probabilities, in nats, without the
            end of the answer; an empty answer has 0.0.

        Raises:
            SetupError: a question that could not be answered either, or a closed or busy
                pipeline.
            EngineError: an answer too long for a slot.
        """
        (parsed,) = parse([question])
        with self._exclusive():
            (asked,) = self.way.prepare([parsed], overrides=Overrides(compute=False, cache=False))
            if isinstance(asked, Answer):
                raise SetupError(f"the question cannot be answered: {asked.problem}")
            engine, request = self.engines[asked.model], asked.request
            texts = [engine.model.tokenize(answer, follows=True) for answer in answers]
            scored = [tokens for tokens in texts if tokens]
            found = iter(engine.log_likelihoods(request.prompt, scored, request.adapter))
            return [float(next(found).sum()) if tokens else 0.0 for tokens in texts]

    def stream(
        self,
        questions: Any,
        passages: Sequence[Sequence[str]] | None = None,
        logprobs: bool = False,
    ) -> Iterator[Answer]:
        """The same answers, each as soon as it is ready; `index` is its place in `questions`.

        Until it is used up or closed the pipeline is busy. Use it in one thread.

        Args:
            passages: for each question the texts to show with it, in place of those of knowledge
                bases.
            logprobs: report the log-probability of each token that the model wrote.

        Raises:
            TypeError: `questions` is not a list.
            ValueError: `passages` has another length than `questions`.
            SetupError: the pipeline has been closed, or this thread has another stream
                of it open.
        """
        parsed = parse(questions)
        if passages is not None and len(passages) != len(parsed):
            raise ValueError(f"passages for {len(passages)} questions, there are {len(parsed)}")
        with self._exclusive():
            overrides = Overrides({"logprobs": 0} if logprobs else {})
            waiting: dict[Path, dict[bytes, list[Asked]]] = {}
            for prepared in self.way.prepare(parsed, passages, overrides):
                if not self.engines:  # closed between two answers of this stream
                    raise SetupError("this pipeline has been closed")
                self._warn(parsed[prepared.index], prepared)
                if isinstance(prepared, Answer):
                    yield _log_problem(parsed[prepared.index], prepared)
                else:  # what must get the same completion is completed once
                    groups = waiting.setdefault(prepared.model, {})
                    groups.setdefault(prepared.key, []).append(prepared)
            for model, groups in waiting.items():
                requests = [replace(same[0].request, tag=same) for same in groups.values()]
                for completion in self.engines[model].generate(requests):
                    self.way.keep(completion.tag[0], completion)
                    for asked in completion.tag:
                        yield _log_problem(asked.question, self.way.finish(asked, completion))

    def _warn(self, question: Question, prepared: Answer | Asked) -> None:
        """Log what is odd about a question that can be answered."""
        name = _name(question, prepared.index)
        if question.warning:
            log.warning("%s: %s", name, question.warning)
        if isinstance(prepared, Asked) and prepared.prompt.cut:
            limit = self.settings.max_input_tokens
            log.warning("%s: cut to MAX_INPUT_TOKENS=%d, its middle is lost", name, limit)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Wait until no other thread uses the pipeline."""
        if problem := self._maker.why_refused("this pipeline"):
            raise SetupError(problem)
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
        """What all engines have done since loading."""
        return sum((engine.stats for engine in self.engines.values()), Stats())

    def close(self) -> None:
        """Free all models and lift the offline guard. A second call does nothing.

        Waits for other threads' calls; an open stream of this thread ends with an error.
        """
        mine = self._holder == threading.get_ident() or not self._maker.is_here
        with nullcontext() if mine else self._lock:
            self.engines = {}
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _name(question: Question, index: int) -> str:
    return f"question {index + 1} ({question.key[:80]})"


def _log_problem(question: Question, answer: Answer) -> Answer:
    if answer.problem:
        log.error("%s: not answered: %s", _name(question, answer.index), answer.problem)
    return answer
