"""One request from first to last: the request, the work on it, and its completion."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from runtime.engine.sampling import Choice, Draw, SamplingParams, n_likeliest
from runtime.engine.sizing import cells_needed

if TYPE_CHECKING:
    from runtime.engine.grammars import Grammar
    from runtime.engine.model import Model

FinishReason = Literal["stop", "length", "error", "abort"]


@dataclass(frozen=True)
class Request:
    """One prompt to complete."""

    prompt: Sequence[int]  # token ids, at least one
    params: SamplingParams = field(default_factory=SamplingParams)
    # Of its random numbers: the same seed gives the same draws whatever else is in the batch.
    seed: int = 0
    adapter: str | None = None  # the name of a loaded adapter, or None for the bare model
    # Requests of a group and adapter share the longest common prefix of their prompts, which is
    # decoded once.
    group: str = ""
    # Also report the log-probabilities of the prompt's own tokens from this position on (at least
    # 1: the first has none). With it `max_new_tokens` may be 0.
    score_from: int | None = None
    # How many of the likeliest tokens to report in the place of each of those, and report their
    # ranks; None is `params.logprobs`, without ranks.
    score_top: int | None = None
    # It may begin where there is room for this many new tokens. One that gets longer is suspended
    # until there is room for more. None: room for all of them.
    reserve: int | None = None
    grammar: Grammar | None = None  # what the answer must look like; of the model's `grammars`
    # Later requests may begin like this one and its answer, as the next turn of a conversation
    # does: what its slot holds is kept for them in `EngineOptions.prefix_bytes`.
    keep: bool = False
    # The answer is read while it grows, so that the prompts of others must not hold it up for long
    # (see `EngineOptions.stream_gap`).
    streamed: bool = False
    # It waits for all requests without it, and gives up its slot for them. What was computed for
    # it is kept meanwhile.
    background: bool = False
    # Any object of the caller's; it comes back on this request's updates and completion. The
    # engine does not look at it, and requests are compared without it.
    tag: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Completion:
    """The outcome of a request.

    It ends with "stop" (end-of-generation token or stop string), "length" (`max_new_tokens` reached
    or the slot full), "abort" or "error".
    """

    index: int  # the number from `Engine.add`; with `Engine.generate` the place in the list
    tokens: list[int]  # generated, without the end-of-generation token
    text: str  # of them, cut before the first stop string
    finish_reason: FinishReason
    error: str = ""  # what went wrong
    stopped_by: str | int | None = None  # the stop string or stop token that ended it
    # For each of `tokens` its log-probability and its likeliest rivals, where
    # `SamplingParams.logprobs` asked for them.
    scores: list[Choice] = field(default_factory=list)
    # The same for the prompt's tokens from `Request.score_from` on.
    prompt_scores: list[Choice] = field(default_factory=list)
    n_restored: int = 0  # tokens of the prompt that were not computed for it, but found saved
    # When it first had a slot, by `time.perf_counter`; 0.0 if it never had one.
    began: float = field(default=0.0, compare=False)
    tag: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Update:
    """What one step added to a request.

    What may become part of a stop string or of a character is held back until that is decided.
    """

    index: int
    text: str = ""
    n_tokens: int = 0  # that are new: several where a grammar has forced some
    scores: tuple[Choice, ...] = ()  # of the new tokens, if requested
    completion: Completion | None = None  # with the last update
    tag: Any = field(default=None, compare=False)


class Status(Enum):
    """How far a generation has come; only `Scheduler` changes it."""

    ARRIVED = auto()
    WAITING = auto()  # for a slot
    PREFILLING = auto()
    STAGED = auto()  # prefilled, waits in a staging slot for one that decodes
    RUNNING = auto()
    ENDED = auto()


@dataclass(eq=False)
class Generation:
    """A request on its way through the engine.

    Of a row of logits it draws from the `n_likeliest` likeliest tokens; None is all.
    """

    index: int
    request: Request
    most_cells: int | None = None  # tokens that a slot can hold at most; None is no limit
    status: Status = Status.ARRIVED
    # Tokens of the prompt whose keys and values are in the slot's cache; the rest still has to be
    # prefilled. While it waits, how many will be, as far as is known.
    n_cached: int = 0
    n_restored: int = 0  # how many of them were put there from a saved state
    prefix: np.ndarray | None = None  # while it waits, a saved state that begins with them
    suspended: np.ndarray | None = None  # while it waits, what the slot held that it had before
    slot: int = -1  # while it waits
    began: float = 0.0  # when it first had a slot, by `time.perf_counter`
    tokens: list[int] = field(default_factory=list)
    # How many of `tokens`, beside the newest, the slot's cache does not have yet, because a grammar
    # has forced several at once.
    n_forced: int = 0
    scores: list[Choice] = field(default_factory=list)
    prompt_scores: list[Choice] = field(default_factory=list)

    def __post_init__(self) -> None:
        scored = self.request.score_from is not None
        grammar = self.request.grammar
        whole = scored or grammar is not None
        self.n_likeliest = None if whole else n_likeliest(self.request.params)
        self._matcher = grammar.matcher() if grammar else None
        # Scores need the logits of each token, and what the request says of tokens may forbid one.
        params = self.request.params
        self._may_force = params.logprobs is None and next(params.token_ids, None) is None
        self._random = np.random.default_rng(self.request.seed)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._reserved = params.max_new_tokens  # new tokens that its slot must have room for
        if self.request.reserve is not None:
            self._reserved = min(self._reserved, self.request.reserve)
        self._text = ""
        self._stopped_by: str | int | None = None
        self._n_shown = 0  # characters that updates have shown
        self._n_scores_shown = 0
        self._n_tokens_shown = 0

    @property
    def n_prompt(self) -> int:
        return len(self.request.prompt)

    @property
    def n_to_prefill(self) -> int:
        return self.n_prompt - self.n_cached

    @property
    def cells(self) -> int:
        """Cells of a slot's cache that are reserved for it."""
        return self._cells_for(self._reserved)

    def outgrows(self, cells: int) -> bool:
        """Whether its next token needs more room than a slot of `cells` has."""
        return self._cells_for(len(self.tokens)) > cells

    def reserve_more(self) -> None:
        """Raise `cells`, so that it waits for a longer slot."""
        step = self.request.reserve or 0
        more = max(2 * self._reserved, len(self.tokens) + step)
        self._reserved = min(more, self.request.params.max_new_tokens)

    def _cells_for(self, n_new: int) -> int:
        needed = cells_needed(self.n_prompt, n_new)
        return needed if self.most_cells is None else min(needed, self.most_cells)

    @property
    def n_held(self) -> int:
        """Tokens whose keys and values its slot holds: all but the newest, and `n_forced`."""
        return self.n_cached + max(0, len(self.tokens) - 1 - self.n_forced)

    @property
    def missing(self) -> Sequence[int]:
        """Tokens to compute before the next one can be drawn."""
        if self.n_to_prefill:
            return self.request.prompt[self.n_cached :]
        return self.tokens[-1 - self.n_forced :]

    @property
    def n_missing(self) -> int:
        return self.n_to_prefill or 1 + self.n_forced

    @property
    def wants_tokens(self) -> bool:
        """False where only the prompt is scored."""
        return self.request.params.max_new_tokens > 0

    @property
    def n_rivals(self) -> int:
        """How many of the likeliest tokens to report beside each scored token of the prompt."""
        top = self.request.score_top
        return (self.request.params.logprobs or 0) if top is None else top

    @property
    def n_shareable(self) -> int:
        """Longest prefix of the prompt that may be shared: logits after it are needed."""
        scored = self.request.score_from
        return self.n_prompt - 1 if scored is None else min(self.n_prompt, scored) - 1

    def draw(self) -> Draw:
        """How to draw its next token; each call uses up a random number."""
        params = self.request.params
        may_end = len(self.tokens) >= params.min_new_tokens and not params.ignore_end
        allowed = None
        if self._matcher is not None:
            allowed = self._matcher.allowed()
            may_end = may_end or self._matcher.must_end(allowed)
        uniform = float(self._random.random())
        return Draw(params, uniform, may_end, self.request.prompt, self.tokens, allowed)

    @property
    def why_no_token(self) -> str:
        """What to say where no token may come next."""
        problem = self._matcher.problem if self._matcher else ""
        said = f"the request allows no token after {len(self.tokens)} tokens"
        return f"{said}: {problem}" if problem else said

    def accept(self, choice: Choice, model: Model) -> FinishReason | None:
        """Append a token, and those that the grammar forces after it.

        Answers are the same as if each forced token had been drawn. Returns why the generation
        ends with them, or None if it goes on.
        """
        reason = self._append(choice, model)
        if reason or self._matcher is None or not self._may_force:
            return reason
        n_before = len(self.tokens)
        for token in self._matcher.forced():
            self._random.random()
            if reason := self._append(Choice(token), model):
                break
        self.n_forced = len(self.tokens) - n_before
        return reason

    def _append(self, choice: Choice, model: Model) -> FinishReason | None:
        """Append a token; returns why the generation ends with it, or None if it goes on."""
        params = self.request.params
        piece = model.piece(choice.token, params.show_special)
        # A grammar that allows nothing but the end is not ignored.
        goes_on = params.ignore_end and self._matcher is None
        if (model.is_end(choice.token) and not goes_on) or choice.token in params.stop_token_ids:
            self._text += self._decoder.decode(piece if params.include_stop else b"", final=True)
            if choice.token in params.stop_token_ids:
                self._stopped_by = choice.token
            return "stop"
        self.tokens.append(choice.token)
        if params.logprobs is not None:
            self.scores.append(choice)
        before = len(self._text)
        self._text += self._decoder.decode(piece)
        found = [
            (at, at + len(stop) * params.include_stop, stop)
            for stop in params.stop
            if (at := self._text.find(stop, max(0, before - len(stop)))) >= 0
        ]
        if found:
            _, end, self._stopped_by = min(found)
            self._text = self._text[:end]
            return "stop"
        if self._matcher is not None:
            self._matcher.accept(choice.token)
            if self._matcher.ended:
                return "stop"
        n_tokens = self.n_prompt + len(self.tokens)
        full = self.most_cells is not None and n_tokens >= self.most_cells
        return "length" if full or len(self.tokens) >= params.max_new_tokens else None

    def update(self, completion: Completion | None = None) -> Update:
        """What is new since the last update."""
        end = len(self._text) if completion else len(self._text) - self._n_held_back()
        text = self._text[self._n_shown : end]
        scores = tuple(self.scores[self._n_scores_shown :])
        n_tokens = len(self.tokens) - self._n_tokens_shown
        self._n_shown += len(text)
        self._n_scores_shown = len(self.scores)
        self._n_tokens_shown += n_tokens
        return Update(self.index, text, n_tokens, scores, completion, self.request.tag)

    def _n_held_back(self) -> int:
        """Length of the text's end that may be the beginning of a stop string."""
        return max(
            (
                n
                for stop in self.request.params.stop
                for n in range(1, len(stop))
                if self._text.endswith(stop[:n])
            ),
            default=0,
        )

    def complete(self, reason: FinishReason, error: str = "") -> Completion:
        return Completion(
            self.index,
            self.tokens,
            self._text,
            reason,
            error,
            self._stopped_by,
            self.scores,
            self.prompt_scores,
            self.n_restored,
            self.began,
            self.request.tag,
        )


def why_refused(request: Request, most_tokens: int, model: Model) -> str:
    """Why a request cannot be served, or ""; a prompt may have `most_tokens` tokens."""
    n, params = len(request.prompt), request.params
    if n == 0:
        return "the prompt has no tokens"
    if n > most_tokens:
        return f"the prompt has {n} tokens and a slot takes {most_tokens}"
    if min(request.prompt) < 0 or max(request.prompt) >= model.n_vocab:
        return "the prompt has a token id that the model does not know"
    if request.score_from is not None and not 1 <= request.score_from <= n:
        return f"score_from is {request.score_from}, not 1 to {n}"
    if params.max_new_tokens < (request.score_from is None):
        return "max_new_tokens is below 1"
    if not all(params.stop):
        return "an empty stop string"
    if not all(0 <= token < model.n_vocab for token in params.token_ids):
        return "its parameters have a token id that the model does not know"
    if not all(params.bad_words):
        return "an empty bad word"
    if request.grammar is not None and request.grammar.n_vocab != model.n_vocab:
        return "its grammar was compiled for another vocabulary"
    if request.adapter is not None and request.adapter not in model.adapters:
        return f"no adapter named {request.adapter!r} is loaded"
    return ""
