"""The data that the call passes to the judges, the score and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[FiniteFloat, Field(gt=0)]


@dataclass(frozen=True)
class Item:
    """A question with the data needed to judge an answer.

    Attributes:
        id: its questionID, unchanged.
        subject: name of one of the declared subjects.
        question: its text.
        references: right answers, any of which is enough; at least one.
        choices: all answers that were on offer, the right one included; or none.
        difficulty: such as "easy", or None.
        judge: which of `runtime.subjects.JUDGES` to use; None is the default of the subject.
        solution: the steps that lead to the answer, for training; no judge reads them.
    """

    id: Any
    subject: str
    question: str
    references: tuple[str, ...]
    choices: tuple[str, ...] = ()
    difficulty: str | None = None
    judge: str | None = None
    solution: str = ""


@dataclass(frozen=True)
class Verdict:
    """A judge's decision about an answer.

    Attributes:
        correct: whether the answer counts as right.
        score: how close it is, 0.0 to 1.0 (token F1, for example); 1.0 if only `correct` is known.
        judge: the judge that decided.
        reason: a short explanation.
    """

    correct: bool
    score: float
    judge: str
    reason: str


class _Record(BaseModel):
    """Data in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class Run(_Record):
    """One run of a pipeline under test: its results, and measurements from outside.

    Attributes:
        answers: the answer to each question in order; None where the pipeline gave none.
        failure: how the pipeline failed as a whole ("raised ValueError: ...", "hung: ...",
            "crashed: SIGSEGV"), or "".
        violations: everything in its output that the contest would not accept.
        setup_seconds: of loading, which does not count.
        call_seconds: duration of the call, end to end, or None if it never ended.
        answer_seconds: when each answer was ready, in seconds from the start of the call;
            None if the pipeline does not report it.
        stats: counters that the pipeline reports (`prefill_seconds`, `decode_seconds`,
            `new_tokens`, ...); may be empty.
        sources: its Python files outside installed packages, as it reports them.
        peak_memory: the largest number of bytes of its processes together.
        peak_gpu_memory: the same on the GPU, or None without one.
        other_cpu_seconds: CPU seconds that other programs used during the call, or None.
        hidden: the right answers were hidden from the pipeline, or `why_not_hidden`.
    """

    answers: list[str | None]
    failure: str = ""
    violations: list[str] = []
    setup_seconds: float = 0.0
    call_seconds: float | None = None
    answer_seconds: list[float] | None = None
    stats: dict[str, float] = {}
    sources: list[str] = []
    peak_memory: int = 0
    peak_gpu_memory: int | None = None
    other_cpu_seconds: float | None = None
    hidden: bool = False
    why_not_hidden: str = ""


class Result(_Record):
    """A line of results.jsonl: one question, its answer and the verdict.

    `credit` is what a right answer counts after guessing is taken off (`evaluation.guessing`); None
    in reports of earlier versions. `rules` is the verdict of the rules on an answer that a model
    judged, else None.
    """

    questionID: Any  # noqa: N815  (the contest's spelling)
    subject: str
    difficulty: str | None = None
    question: str
    references: list[str]
    choices: list[str] = []
    answer: str
    correct: bool
    credit: Share | None = None
    score: float
    judge: str
    reason: str
    rules: bool | None = None
    rules_reason: str = ""

    @property
    def counted(self) -> float:
        """What it adds to the accuracy that the score uses, 0.0 to 1.0."""
        return float(self.correct) if self.credit is None else self.credit


class Interval(_Record):
    """A share of n tries with its 95 % bootstrap interval; all 0.0 to 1.0."""

    mean: Share
    low: Share
    high: Share
    n: PositiveInt

    @model_validator(mode="after")
    def _contains_its_mean(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError("its mean is outside the interval")
        return self


class Agreement(_Record):
    """How far a judge model and the rules agree on the answers that the model judged.

    Attributes:
        n: answers, of which they agree on `agree`.
        kappa: Cohen's, with its 95 % bootstrap interval `low` to `high`; all None where it is
            undefined, as both judges call all answers right, or all of them wrong.
    """

    n: NonNegativeInt
    agree: NonNegativeInt
    kappa: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None


class Latency(_Record):
    """Seconds, except for rates and shares; None if the pipeline does not report it.

    `other_cores` is how many CPU cores other programs kept busy during the call, on average;
    latencies are comparable only if it is close to 0. None if it is not known.
    """

    total: Seconds
    per_question: Seconds
    p50: float | None = None
    p95: float | None = None
    tokens_per_second: float | None = None
    prefill_share: float | None = None
    decode_share: float | None = None
    other_cores: float | None = None


class Summary(_Record):
    """summary.json: a judged run.

    Attributes:
        name: of the run.
        pipeline: where `loadPipeline` was found, such as "inferencePipeline:loadPipeline".
        questions: files of the questions; `questions_sha256` is their fingerprint.
        machine: its machine; speeds are compared only on the same machine.
        judge: the judges; accuracies are compared only with the same judges.
        failure: how the pipeline failed as a whole, or "".
        violations: everything in its output that the contest would not accept.
        accuracy: over all questions; a missing answer counts as wrong.
        by_subject, by_difficulty: the same for parts of the questions.
        by_judge: how many answers each judge decided.
        agreement: between a judge model and the rules, or None without a judge model.
        without_guessing: the accuracy that the score uses: what answers would satisfy by chance is
            taken off (`evaluation.guessing`). None in reports of earlier versions.
        guessed: the share of other questions of its kind that an answer satisfies as well, by
            subject.
        latency: of the one call, or None if it never ended.
        setup_seconds: loading, which does not count.
        peak_memory, peak_gpu_memory: bytes.
        hidden: the right answers were hidden from the pipeline (see docs/evaluation.md), or
            `why_not_hidden`.
        gated: the accuracy without guessing is under the gate, so the run scores nothing.
    """

    name: str
    pipeline: str
    questions: str
    questions_sha256: str
    machine: str
    judge: str
    created: str
    failure: str = ""
    violations: list[str] = []
    accuracy: Interval
    by_subject: dict[str, Interval]
    by_difficulty: dict[str, Interval] = {}
    by_judge: dict[str, int] = {}
    agreement: Agreement | None = None
    without_guessing: Interval | None = None
    guessed: dict[str, Share] = {}
    latency: Latency | None
    setup_seconds: float
    peak_memory: int
    peak_gpu_memory: int | None = None
    hidden: bool = False
    why_not_hidden: str = ""
    gated: bool

    @property
    def counted(self) -> Interval:
        """The accuracy that the score uses."""
        return self.without_guessing or self.accuracy

    @field_validator("guessed", mode="before")
    @classmethod
    def _by_subject(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {}  # earlier versions had one share
