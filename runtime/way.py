"""The way of a question: to a prompt, and from what the model wrote to an answer.

Lists, the server, batches, Ray, calibration and training all take it, so they cannot differ.
`prepare` answers a question at once (computed, found in the answer cache, refused) or makes a
request to an engine; `finish` makes an answer of the completion.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from algebra import Solver
from runtime.answers import Cleaner, Verbatim, clean
from runtime.cache import AnswerCache, Keys
from runtime.common.errors import SetupError
from runtime.engine import Completion, Model, Request, SamplingParams
from runtime.files.routes import Route
from runtime.overrides import AS_SET, Overrides
from runtime.prompts import TokenFrame, prompt_tokens, tokenized_frame
from runtime.questions import Question
from runtime.retrieval import Retrieval
from runtime.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The answer to `questions[index]`."""

    index: int
    question_id: Any
    answer: str
    problem: str = ""  # why there is none
    cut: bool = False  # it reached the limit of its length, and may lack its result
    logprobs: tuple[float, ...] = ()  # of each token that the model wrote, in nats, if wanted
    source: Literal["model", "computed", "cached"] = "model"  # computed: by the exact tool

    def record(self) -> dict[str, Any]:
        """The answer as a call of the pipeline returns it."""
        return {"questionID": self.question_id, "answer": self.answer}


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt."""

    tokens: list[int]
    opens_thinking: bool = False  # it ends inside a think block, so that the model begins in it
    cut: bool = False  # the question lost its middle to fit `MAX_INPUT_TOKENS`


@dataclass(frozen=True)
class Asked:
    """A question that a model has to answer."""

    index: int  # its place in the list
    question: Question
    prompt: Prompt
    request: Request
    model: Path  # the file of the model whose engine runs the request
    passages: int = 0  # how many texts of a knowledge base are shown with it
    cleaned: bool = True  # what the model writes will be cleaned
    key: bytes = b""  # equal for questions that must get the same completion; b"" is unknown
    cached: bool = False  # the completion is kept in the answer cache

    def cleaner(self) -> Cleaner | Verbatim:
        """What shows the answer while it is written."""
        if not self.cleaned:
            return Verbatim()
        return Cleaner(self.question.text, self.prompt.opens_thinking)


class Way:
    """Makes requests of questions and answers of completions. For any number of threads.

    It owns none of its parts, and uses only the vocabularies of the loaded models.

    Raises:
        SetupError: a chat template cannot be used, or leaves no room for a question.
        ConstraintError: a subject's form cannot be used with its model's vocabulary.

    Attributes:
        frames: what is around the question in each subject's prompts.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Mapping[str, Route],
        models: Mapping[Path, Model],
        keys: Keys,
        solver: Solver | None = None,
        retrieval: Retrieval | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        self.frames = {
            subject: _checked_frame(settings, models[route.model], subject)
            for subject, route in routes.items()
        }
        self._settings = settings
        self._routes = routes
        self._models = models
        self._keys = keys
        self._solver = solver
        self._retrieval = retrieval
        self._cache = cache

    def prepare(
        self,
        questions: Sequence[Question],
        passages: Sequence[Sequence[str]] | None = None,
        overrides: Overrides = AS_SET,
    ) -> Iterator[Answer | Asked]:
        """For each question, in order, its answer or what to ask a model.

        `passages` has for each the texts to show with it, in place of those of knowledge bases.
        """
        compute = overrides.compute and overrides.constraint is None
        computed = self._computed(questions) if compute else {}
        for index, question in enumerate(questions):
            if question.problem:
                yield _refused(index, question, question.problem)
            elif index in computed:
                yield Answer(index, question.id, computed[index], source="computed")
            else:
                shown = self.passages(question) if passages is None else passages[index]
                try:
                    asked = self._asked(index, question, shown, overrides)
                except Exception as error:  # one bad question never costs the others
                    log.debug("question %.80s", question.key, exc_info=True)
                    yield _refused(index, question, f"no prompt could be made of it ({error})")
                else:
                    yield self._cached(asked) or asked

    def prepare_prompt(
        self,
        question: Question,
        prompt: Prompt,
        model: Path,
        adapter: str | None,
        subject: str | None = None,
        overrides: Overrides = AS_SET,
        index: int = 0,
    ) -> Asked:
        """What to ask a model with a prompt that was made elsewhere, such as a conversation.

        Args:
            question: is only looked at for its draws and by the cleaner.
            adapter: the name under which an adapter is loaded, or None.
            subject: whose settings apply, and whose answers are cleaned; or None.
        """
        request = self._request(question, prompt, model, adapter, subject, overrides)
        cleaned = subject is not None if overrides.clean is None else overrides.clean
        cleaned = cleaned and request.grammar is None
        return Asked(index, question, prompt, request, model, cleaned=cleaned)

    def finish(self, asked: Asked, completion: Completion) -> Answer:
        """The answer in what a model wrote."""
        question, text, reason = asked.question, completion.text, completion.finish_reason
        if reason == "error":
            return _refused(asked.index, question, completion.error)
        cut = reason == "length"
        if asked.cleaned:
            text = clean(text, question.text, cut, asked.prompt.opens_thinking)
        scores = tuple(choice.logprob for choice in completion.scores)
        return Answer(asked.index, question.id, text, cut=cut, logprobs=scores)

    def keep(self, asked: Asked, completion: Completion) -> None:
        """Keep a completion in the answer cache, if there is one and it may be kept."""
        if self._cache and asked.cached and completion.finish_reason in ("stop", "length"):
            self._cache.keep(asked.key, completion.text, completion.finish_reason)

    def prompt(self, subject: str, question: str, passages: Sequence[str] = ()) -> Prompt:
        """The prompt of a question, the same in training and serving.

        A question that does not fit `MAX_INPUT_TOKENS` beside its template loses its middle;
        passages are shown as far as they fit beside the whole question.

        Args:
            question: as `questions.clean_text` leaves it.
            passages: texts to show with it, best first.
        """
        frame, limit = self.frames[subject], self._settings.max_input_tokens
        model = self._models[self._routes[subject].model]
        tokens, cut = prompt_tokens(model, frame, question, limit, passages)
        return Prompt(tokens, frame.opens_thinking, cut)

    def passages(self, question: Question) -> Sequence[str]:
        """The texts that a knowledge base has for a question, best first."""
        if self._retrieval is None:
            return ()
        return self._retrieval.passages(self.subject(question), question.text)

    def params(self, subject: str | None, overrides: Overrides = AS_SET) -> SamplingParams:
        """How tokens are picked, and when to stop; a subject of None is the bare model."""
        return overrides.params(self._settings, subject)

    def subject(self, question: Question) -> str:
        """The name of the subject that answers a question."""
        return self._settings.subjects.of(question.subject).name

    def _computed(self, questions: Sequence[Question]) -> dict[int, str]:
        """Answers of the exact tool, by the question's index."""
        if self._solver is None:
            return {}
        subjects = self._settings.subjects
        exercises = {
            index: question.text
            for index, question in enumerate(questions)
            if not question.problem and subjects.of(question.subject).is_computed
        }
        texts = list(dict.fromkeys(exercises.values()))
        try:
            answers = dict(zip(texts, self._solver.answers(texts), strict=True))
        except Exception:  # the model answers them instead
            log.warning("exercises could not be computed exactly", exc_info=True)
            return {}
        found = {index: answers[text] for index, text in exercises.items()}
        return {index: answer for index, answer in found.items() if answer is not None}

    def _asked(
        self, index: int, question: Question, passages: Sequence[str], overrides: Overrides
    ) -> Asked:
        subject = self.subject(question)
        route, prompt = self._routes[subject], self.prompt(subject, question.text, passages)
        # Questions that are shown the same passages have them computed once.
        group = "\n".join([subject, *passages])
        request = self._request(
            question, prompt, route.model, route.adapter_name, subject, overrides, group
        )
        return Asked(
            index,
            question,
            prompt,
            request,
            route.model,
            len(passages),
            cleaned=overrides.clean is not False and request.grammar is None,
            key=self._keys.of(route, request),
            cached=overrides.cache and "logprobs" not in overrides.sampling,
        )

    def _request(
        self,
        question: Question,
        prompt: Prompt,
        model: Path,
        adapter: str | None,
        subject: str | None,
        overrides: Overrides,
        group: str | None = None,
    ) -> Request:
        tokens, grammar = prompt.tokens, None
        if constraint := overrides.form(self._settings, subject):
            grammar = self._models[model].grammars.compile(constraint)
            if prompt.opens_thinking:  # the form is the answer's, not the thinking's
                end = "\n</think>\n\n"
                tokens = tokens + self._models[model].tokenize(end, special=True, follows=True)
        seed, params = _seed(self._settings.seed, question), self.params(subject, overrides)
        return Request(tokens, params, seed, adapter, group or subject or "", grammar=grammar)

    def _cached(self, asked: Asked) -> Answer | None:
        found = self._cache.find(asked.key) if self._cache and asked.cached else None
        if found is None:
            return None
        text, reason = found
        kept = Completion(asked.index, [], text, "length" if reason == "length" else "stop")
        return replace(self.finish(asked, kept), source="cached")


def _checked_frame(settings: Settings, model: Model, subject: str) -> TokenFrame:
    """The frame of a subject's prompts, if it leaves room for a question; compiles its form."""
    if constraint := settings.subjects[subject].constraint:
        model.grammars.compile(constraint)
    frame = tokenized_frame(model, subject, settings.subjects)
    taken = len(frame.head) + len(frame.tail)
    if taken + 1 > settings.max_input_tokens:
        raise SetupError(
            f"MAX_INPUT_TOKENS={settings.max_input_tokens} leaves no room for a question:"
            f" the template for {subject} alone takes {taken} tokens"
        )
    return frame


def _seed(base: int, question: Question) -> int:
    """A seed that depends on the question alone, not on its neighbours."""
    text = question.draws or f"{base} {question.key}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())


def _refused(index: int, question: Question, problem: str) -> Answer:
    return Answer(index, question.id, f"ERROR: not answered: {problem}", problem)
