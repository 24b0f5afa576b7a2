"""The way of a question: parse, compute or look up, prompt, complete, clean, in the given order."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from algebra import Solver
from runtime.answers import clean
from runtime.common.errors import SetupError
from runtime.common.offline import guard
from runtime.engine import Engine, Model, Request, SamplingParams, Stats
from runtime.files.kept import KeptCompletions, Keys
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route, describe, plan_routes
from runtime.loading import adapter_name, load_engines, load_retrieval, load_solver
from runtime.prompts import TokenFrame, prompt_tokens, tokenized_frame
from runtime.questions import Question, parse
from runtime.retrieval import Retrieval
from runtime.settings import Settings
from runtime.subjects import Subject

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The answer to `questions[index]`.

    Attributes:
        problem: why there is none, or "".
        cut: whether it ended because it was as long as it may be, and may lack its result.
        logprobs: the log-probability of each token that the model wrote, in nats, if wanted.
    """

    index: int
    question_id: Any
    answer: str
    problem: str = ""
    cut: bool = False
    logprobs: tuple[float, ...] = ()

    def record(self) -> dict[str, Any]:
        """What the evaluator wants."""
        return {"questionID": self.question_id, "answer": self.answer}


@dataclass(frozen=True)
class _Asked:
    """A request, and the places of the questions that it is for."""

    request: Request
    places: list[int] = field(default_factory=list)


def loadPipeline(  # noqa: N802  (the evaluator's spelling)
    settings: Settings | None = None, progress: Callable[[float], None] | None = None
) -> Pipeline:
    """Load everything that answering needs; slow, once.

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
        kept = None
        if settings.answer_cache:
            kept = KeptCompletions(settings.answer_cache)
            stack.callback(kept.close)
        engines = load_engines(settings, routes, files, progress)
        for engine in engines.values():
            stack.callback(engine.close)
        pipeline = Pipeline(settings, routes, engines, solver, retrieval, kept, files)
        pipeline.closing(stack.pop_all().close)
        return pipeline


class Pipeline:
    """Answers lists of questions. Call it, and close it when done (or use it in a `with`).

    Calls from several threads are served one after another.

    Attributes:
        settings: what it was loaded with.
        routes: what answers each subject.
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
        kept: KeptCompletions | None = None,
        files: ModelFiles | None = None,
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.engines = engines
        self.answer_seconds: list[float] = []
        self._solver = solver
        self._retrieval = retrieval
        self._kept = kept
        options = {path: engine.options for path, engine in engines.items()}
        self._keys = Keys(routes.values(), options, files or ModelFiles())
        self._close: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._holder: int | None = None  # the thread whose stream holds the lock
        self._frames = {
            subject: _checked_frame(settings, engines[route.model].model, subject)
            for subject, route in routes.items()
        }
        self._params = {
            subject: SamplingParams(
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=min(settings.top_p, settings.top_p_cap),
                repetition_penalty=settings.repetition_penalty,
                min_new_tokens=settings.min_new_tokens,
                max_new_tokens=settings.longest_answer_of(subject),
                stop=settings.stop,
            )
            for subject in routes
        }
        for path, engine in engines.items():
            served = [(s, route) for s, route in routes.items() if route.model == path]
            engine.share_prefixes(
                [(adapter_name(route), self._frames[subject].head) for subject, route in served]
            )
            engine.stats.reset()

    def closing(self, close: Callable[[], None]) -> None:
        """Have `close` called, once, when this pipeline is closed."""
        self._close = close

    def __call__(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers, `{"questionID", "answer"}`, one for each question and in their order.

        A question that cannot be answered gets an answer that begins with "ERROR: " and
        says why; the log names it too.

        Raises:
            TypeError: `questions` is no list.
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
        """How likely the model that serves a question finds each of some answers to it.

        Returns:
            for each answer the sum of its tokens' log-probabilities, in nats, without the
            end of the answer; an empty answer has 0.0.

        Raises:
            SetupError: a question that could not be answered either, or a closed or busy
                pipeline.
            EngineError: an answer too long for a slot.
        """
        (parsed,) = parse([question])
        if parsed.problem:
            raise SetupError(f"the question cannot be answered: {parsed.problem}")
        with self._exclusive():
            (shown,) = self._passages([parsed], {})
            subject = self._subject(parsed).name
            request = self._request(0, parsed, subject, self._params[subject], shown)
            engine = self.engines[self.routes[subject].model]
            texts = [engine.model.tokenize(answer, follows=True) for answer in answers]
            asked = [tokens for tokens in texts if tokens]
            found = iter(engine.log_likelihoods(request.prompt, asked, request.adapter))
            return [float(next(found).sum()) if tokens else 0.0 for tokens in texts]

    def stream(
        self,
        questions: Any,
        passages: Sequence[Sequence[str]] | None = None,
        logprobs: bool = False,
    ) -> Iterator[Answer]:
        """The same answers as soon as each is there; `index` tells which it is.

        Until it is used up or closed the pipeline is busy; use it in the thread that
        began it.

        Args:
            questions: as in a call.
            passages: for each question the texts to show with it, in place of those that
                knowledge bases have.
            logprobs: report how likely the model found each token that it wrote.

        Raises:
            TypeError: `questions` is no list.
            ValueError: there are not as many `passages`.
            SetupError: the pipeline has been closed, or this thread has another stream
                of it open.
        """
        parsed = parse(questions)
        if passages is not None and len(passages) != len(parsed):
            raise ValueError(f"passages for {len(passages)} questions, there are {len(parsed)}")
        with self._exclusive():
            computed = self._computed(parsed)
            shown = self._passages(parsed, computed) if passages is None else passages
            asked: dict[Path, dict[bytes, _Asked]] = {}
            for index, question in enumerate(parsed):
                if question.problem:
                    yield _failed(index, question, question.problem)
                    continue
                if question.warning:
                    log.warning("question %s: %s", _name(index, question), question.warning)
                if (text := computed.get(index)) is not None:
                    yield Answer(index, question.id, text)
                    continue
                if not self.engines:  # closed between two answers of this stream
                    raise SetupError("this pipeline has been closed")
                subject = self._subject(question).name
                params = self._params[subject]
                if logprobs:
                    params = replace(params, logprobs=0)
                try:
                    request = self._request(index, question, subject, params, shown[index])
                except Exception as error:  # one bad question never costs the others
                    log.debug("question %s", _name(index, question), exc_info=True)
                    yield _failed(index, question, f"no prompt could be made of it ({error})")
                    continue
                route = self.routes[subject]
                key = self._keys.of(route, request)
                if self._kept and not logprobs and (kept := self._kept.find(key)):
                    yield self._answer(index, question, *kept)
                    continue
                # What is the same question in all that matters is completed once.
                same = asked.setdefault(route.model, {}).setdefault(key, _Asked(request))
                same.places.append(index)
            for model, by_key in asked.items():
                keys, waiting = list(by_key), list(by_key.values())
                for completion in self.engines[model].generate([each.request for each in waiting]):
                    text, reason = completion.text, completion.finish_reason
                    if self._kept and reason != "error":
                        self._kept.keep(keys[completion.index], text, reason)
                    scores = tuple(choice.logprob for choice in completion.scores)
                    for index in waiting[completion.index].places:
                        if reason == "error":
                            yield _failed(index, parsed[index], completion.error)
                        else:
                            answer = self._answer(index, parsed[index], text, reason)
                            yield replace(answer, logprobs=scores)

    def _answer(self, index: int, question: Question, text: str, reason: str) -> Answer:
        """What the model wrote, cleaned."""
        thinking = self._frames[self._subject(question).name].opens_thinking
        cut = reason == "length"
        return Answer(index, question.id, clean(text, question.text, cut, thinking), cut=cut)

    def computed_answer(self, subject: str, question: str) -> str | None:
        """The answer to a question that needs no model, else None; for any thread."""
        return self._computed([Question(None, subject, question)]).get(0)

    def passages(self, subject: str, question: str) -> Sequence[str]:
        """The texts that would be shown with a question, best first; for any thread."""
        return self._passages([Question(None, subject, question)], {})[0]

    def _computed(self, questions: list[Question]) -> dict[int, str]:
        """Answers that need no model, by the question's index."""
        if self._solver is None:
            return {}
        exercises = self._exercises(questions)
        try:
            answers = self._solver.answers([questions[index].text for index in exercises])
        except Exception:  # the model answers them instead
            log.warning("exercises could not be computed exactly", exc_info=True)
            return {}
        found = zip(exercises, answers, strict=True)
        return {index: answer for index, answer in found if answer is not None}

    def _exercises(self, questions: Sequence[Question]) -> list[int]:
        """The places of questions that the tool for algebra is for."""
        return [
            index
            for index, question in enumerate(questions)
            if not question.problem and self._subject(question).tool == "algebra"
        ]

    def _passages(
        self, questions: Sequence[Question], computed: Mapping[int, str]
    ) -> Sequence[Sequence[str]]:
        """For each question the texts that a knowledge base has for it."""
        if self._retrieval is None:
            return [()] * len(questions)
        return [
            ()
            if question.problem or index in computed
            else self._retrieval.passages(self._subject(question).name, question.text)
            for index, question in enumerate(questions)
        ]

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
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
        return sum((engine.stats for engine in self.engines.values()), Stats())

    def close(self) -> None:
        """Free all models and lift the offline guard. A second call does nothing.

        Waits for other threads' calls; an open stream of this thread ends with an error.
        """
        mine = self._holder == threading.get_ident()
        with nullcontext() if mine else self._lock:
            self.engines = {}
            close, self._close = self._close, lambda: None
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _subject(self, question: Question) -> Subject:
        return self.settings.subjects.of(question.subject)

    def _request(
        self,
        index: int,
        question: Question,
        subject: str,
        params: SamplingParams,
        passages: Sequence[str],
    ) -> Request:
        route = self.routes[subject]
        limit = self.settings.max_input_tokens
        model = self.engines[route.model].model
        frame = self._frames[subject]
        prompt, cut = prompt_tokens(model, frame, question.text, limit, passages)
        if cut:
            log.warning(
                "question %s: cut to MAX_INPUT_TOKENS=%d, its middle is lost",
                _name(index, question),
                limit,
            )
        return Request(
            prompt,
            params,
            seed=_seed(self.settings.seed, question),
            adapter=adapter_name(route),
            # Questions that are shown the same passages have them computed once.
            group="\n".join([subject, *passages]),
        )


def _checked_frame(settings: Settings, model: Model, subject: str) -> TokenFrame:
    """The frame of a subject's prompts, if it leaves room for a question."""
    frame = tokenized_frame(model, subject, settings.subjects)
    taken = len(frame.head) + len(frame.tail)
    if taken + 1 > settings.max_input_tokens:
        raise SetupError(
            f"MAX_INPUT_TOKENS={settings.max_input_tokens} leaves no room for a question:"
            f" the template for {subject} alone takes {taken} tokens"
        )
    return frame


def _seed(base: int, question: Question) -> int:
    """A seed that depends on the question's id alone, not on its neighbours."""
    text = f"{base} {question.key}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _failed(index: int, question: Question, problem: str) -> Answer:
    log.error("question %s: not answered: %s", _name(index, question), problem)
    return Answer(index, question.id, f"ERROR: not answered: {problem}", problem)


def _name(index: int, question: Question) -> str:
    return f"{index + 1} ({question.key[:80]})"
