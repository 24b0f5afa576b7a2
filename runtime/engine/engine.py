"""The loop: schedule, decode, sample, finish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence as List
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from runtime.engine.batch import Batch
from runtime.engine.context import Context, FlashAttention
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.prefixes import PrefixCache
from runtime.engine.sampling import log_softmax, penalize, sample
from runtime.engine.scheduler import ROWS_AT_ONCE, Decode, Prefill, Scheduler
from runtime.engine.sequence import Completion, FinishReason, Request, Sequence, common_prefix

# A prefix shorter than this is not worth a copy of its cache.
MIN_SHARED = 8
# A padded prefill writes at most this many cells beyond the prompt.
PADDING_CELLS = 16


@dataclass
class Stats:
    """What the engine has done since it was made or `reset`; times in seconds.

    `prefill_tokens` are prompt tokens computed, `shared_tokens` those taken from a saved
    prefix, `decode_tokens` those computed one per sequence and step, `padding_tokens`
    those computed for nothing.
    """

    prefill_tokens: int = 0
    shared_tokens: int = 0
    decode_tokens: int = 0
    padding_tokens: int = 0
    new_tokens: int = 0
    prefill_calls: int = 0
    decode_calls: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    sampling_seconds: float = 0.0

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class Engine:
    """Completes many prompts at once on one model, with continuous batching.

    An engine owns its model and context: `close()` it or use it in a `with`. It is not
    for several threads at a time.

    Args:
        model: taken over and closed with the engine.
        context: as made for that model; taken over and closed with the engine.
        call_cost: what one more llama.cpp call costs, in tokens (see `Scheduler`).

    Raises:
        ValueError: a context without staging slots, or a `call_cost` for which a padded
            prefill could overrun its slot.
    """

    def __init__(self, model: Model, context: Context, call_cost: int = 8) -> None:
        if context.staging < 1:
            raise ValueError("an engine needs a context with staging slots")
        if not 0 <= call_cost <= PADDING_CELLS - ROWS_AT_ONCE:
            raise ValueError(f"call_cost must be 0 to {PADDING_CELLS - ROWS_AT_ONCE}")
        self.model = model
        self.context = context
        self.call_cost = call_cost
        self.stats = Stats()
        self._batch = Batch(context.max_tokens)
        self._prefixes = PrefixCache()
        self._busy = False

    @classmethod
    def load(
        cls,
        path: str | Path,
        slots: int = 16,
        cells_per_slot: int = 1024,
        threads: int = 2,
        gpu_layers: int = 0,
        flash_attention: FlashAttention = "auto",
    ) -> Self:
        """Load a GGUF file and make a context for it. Raises EngineError."""
        model = Model(path, gpu_layers)
        try:
            staging = staging_slots(slots)
            context = Context(model, slots, staging, cells_per_slot, threads, flash_attention)
            return cls(model, context)
        except BaseException:
            model.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free context and model. A second call does nothing."""
        self._prefixes.clear()
        self.context.close()
        self.model.close()

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt that leaves room for one new token."""
        return self.context.cells_per_slot - PADDING_CELLS - 1

    def share_prefix(self, tokens: List[int], adapter: str | None = None) -> None:
        """Decode a prefix now and keep it for good, for the requests that begin with it.

        One of fewer than `MIN_SHARED` tokens is not worth it and is ignored.

        Raises:
            EngineError: too long or unknown tokens, no such adapter, or busy.
        """
        self._refuse_if_busy()
        if len(tokens) >= MIN_SHARED:
            problem = self._problem(Request(tokens))
            if problem:
                raise EngineError(problem)
            self._save_prefix(adapter, tuple(tokens), pinned=True)

    def generate(self, requests: List[Request]) -> Iterator[Completion]:
        """Complete the requests; yields each as it ends, in no particular order.

        Requests with different adapters never share a step, since llama.cpp applies an
        adapter to a whole context: they are run adapter by adapter. A request that
        cannot be served gets a completion with finish_reason "error"; the others go on.

        Raises:
            EngineError: the engine is closed or busy with another `generate`.
        """
        self._refuse_if_busy()
        self._busy = True
        try:
            by_adapter: dict[str | None, list[Sequence]] = {}
            for index, request in enumerate(requests):
                problem = self._problem(request)
                if problem:
                    yield Completion(index, [], "", "error", problem)
                else:
                    sequence = Sequence(index, request)
                    by_adapter.setdefault(request.adapter, []).append(sequence)
            for adapter, sequences in by_adapter.items():
                yield from self._run(adapter, sequences)
        finally:
            self._busy = False
            self._prefixes.trim()
            if not self.context.closed:
                self.context.clear_all()

    def log_likelihoods(
        self, prompt: List[int], continuations: List[List[int]], adapter: str | None = None
    ) -> list[np.ndarray]:
        """How likely the model finds each continuation of a prompt, whatever it would write.

        Returns:
            for each continuation the log-probability of each of its tokens, float64
            [len(continuation)], in nats.

        Raises:
            EngineError: a prompt or continuation that is empty, too long or has unknown
                tokens, no such adapter, or busy.
        """
        self._refuse_if_busy()
        wholes = [[*prompt, *continuation[:-1]] for continuation in continuations]
        for tokens in [prompt, *continuations, *wholes]:
            if problem := self._problem(Request(tokens)):
                raise EngineError(problem)
        self.context.use_adapter(adapter)
        try:
            start = self._prefixes.longest(adapter, prompt[:-1])
            if start:
                self.context.restore(0, self._prefixes.get(adapter, prompt[:start]))
            first = log_softmax(self._logits_after(start, prompt[start:])[-1:])
            found = []
            for continuation in continuations:
                rest = self._logits_after(len(prompt), continuation[:-1])
                every = np.concatenate([first, log_softmax(rest)])
                found.append(every[np.arange(len(continuation)), continuation])
                self.context.clear(0, len(prompt))
            return found
        finally:
            self.context.clear(0)

    def _logits_after(self, start: int, tokens: List[int]) -> np.ndarray:
        """Decode tokens in slot 0 from position `start` on; logits [len(tokens), vocab]."""
        step = self.context.max_tokens
        parts = [np.empty((0, self.model.n_vocab), np.float32)]
        for first in range(0, len(tokens), step):
            chunk = tokens[first : first + step]
            position = np.arange(start + first, start + first + len(chunk))
            batch = self._batch.fill(chunk, position, 0, 1)
            parts.append(self.context.decode(batch, len(chunk)).copy())
        return np.concatenate(parts)

    def _refuse_if_busy(self) -> None:
        _ = self.context.pointer  # raises if closed
        if self._busy:
            raise EngineError("the engine is busy: finish or close the running generate() first")

    def _problem(self, request: Request) -> str:
        n = len(request.prompt)
        if n == 0:
            return "the prompt has no tokens"
        if n > self.max_prompt_tokens:
            return f"the prompt has {n} tokens and a slot takes {self.max_prompt_tokens}"
        if min(request.prompt) < 0 or max(request.prompt) >= self.model.n_vocab:
            return "the prompt has a token id that the model does not know"
        if request.params.max_new_tokens < 1:
            return "max_new_tokens is below 1"
        if not all(request.params.stop):
            return "an empty stop string"
        return ""

    def _run(self, adapter: str | None, sequences: list[Sequence]) -> Iterator[Completion]:
        """All requests of one adapter."""
        try:
            self.context.use_adapter(adapter)
            self._find_prefixes(adapter, sequences)
        except EngineError as error:
            for sequence in sequences:
                yield Completion(sequence.index, [], "", "error", str(error))
            return
        running = {s.index: _Running(s, self.model) for s in sequences}
        scheduler = Scheduler(
            self.context.slots, self.context.staging, self.context.max_tokens, self.call_cost
        )
        scheduler.add(sequences)
        while (step := scheduler.next_step()) is not None:
            try:
                if isinstance(step, Prefill):
                    ready, logits = self._prefill(step, scheduler)
                else:
                    ready, logits = self._decode(step)
            except EngineError as error:
                if self.context.closed:
                    raise
                for sequence in step.sequences:
                    scheduler.finish(sequence)
                # The step may have stopped half way: keep only what is known to be whole.
                for slot in scheduler.free_slots():
                    self.context.clear(slot)
                for sequence in step.sequences:
                    yield running.pop(sequence.index).complete("error", str(error))
                continue
            started = time.perf_counter()
            tokens = self._sample(logits, [running[s.index] for s in ready])
            done: list[Completion] = []
            for sequence, token in zip(ready, tokens, strict=True):
                reason = running[sequence.index].accept(token, self.context.cells_per_slot)
                if reason:
                    scheduler.finish(sequence)
                    self.context.clear(sequence.slot)
                    done.append(running.pop(sequence.index).complete(reason))
            self.stats.new_tokens += len(tokens)
            self.stats.sampling_seconds += time.perf_counter() - started
            yield from done

    # Prefixes

    def _find_prefixes(self, adapter: str | None, sequences: list[Sequence]) -> None:
        """Set `n_prefix` of each sequence, decoding the prefixes of groups first."""
        groups: dict[str, list[Sequence]] = {}
        for sequence in sequences:
            groups.setdefault(sequence.request.group, []).append(sequence)
        for members in groups.values():
            shared = common_prefix([s.request.prompt for s in members])
            saved = self._prefixes.longest(adapter, shared)
            # Worth decoding if at least two have enough more in common than is saved already.
            if len(members) > 1 and len(shared) - saved >= MIN_SHARED:
                self._save_prefix(adapter, shared, pinned=False)
                saved = len(shared)
            for sequence in members:
                sequence.n_prefix = sequence.n_cached = saved

    def _save_prefix(self, adapter: str | None, tokens: tuple[int, ...], pinned: bool) -> None:
        """Decode `tokens` in slot 0, which must be free, and keep its cache."""
        start = self._prefixes.longest(adapter, tokens)
        if start == len(tokens):
            if pinned:
                self._prefixes.pin(adapter, tokens)
            return
        started = time.perf_counter()
        self.context.use_adapter(adapter)
        try:
            if start:
                self.context.restore(0, self._prefixes.get(adapter, tokens[:start]))
            for first in range(start, len(tokens), self.context.max_tokens):
                chunk = tokens[first : first + self.context.max_tokens]
                position = np.arange(first, first + len(chunk))
                self.context.decode(self._batch.fill(chunk, position, 0, 0), 0)
                self.stats.prefill_calls += 1
            self._prefixes.put(adapter, tokens, self.context.save(0), pinned)
        finally:
            self.context.clear(0)
        self.stats.prefill_tokens += len(tokens) - start
        self.stats.prefill_seconds += time.perf_counter() - started

    def _restore_prefix(self, sequence: Sequence) -> None:
        request = sequence.request
        prefix = self._prefixes.get(request.adapter, request.prompt[: sequence.n_prefix])
        self.context.restore(sequence.slot, prefix)
        self.stats.shared_tokens += sequence.n_prefix

    # Steps

    def _prefill(self, step: Prefill, scheduler: Scheduler) -> tuple[list[Sequence], np.ndarray]:
        """Returns the sequences whose prompt is complete, with the logits after it."""
        started = time.perf_counter()
        length, n = step.length, len(step.sequences)
        tokens = np.zeros((n, length), np.int32)
        outputs = np.zeros((n, length), np.int8)
        starts = np.zeros(n, np.int32)
        real = np.zeros(n, np.int32)
        ready = []
        for row, sequence in enumerate(step.sequences):
            if sequence.n_cached == sequence.n_prefix and sequence.n_prefix:
                self._restore_prefix(sequence)
            start = sequence.n_cached
            piece = sequence.request.prompt[start : start + length]
            tokens[row, : len(piece)] = piece
            starts[row], real[row] = start, len(piece)
            if start + len(piece) == sequence.n_prompt:
                outputs[row, len(piece) - 1] = 1
                ready.append(sequence)
        positions = starts[:, None] + np.arange(length)
        slots = np.repeat([s.slot for s in step.sequences], length)
        self._batch.fill(tokens.ravel(), positions.ravel(), slots, outputs.ravel())
        logits = self.context.decode(self._batch, len(ready))
        for row, sequence in enumerate(step.sequences):
            if real[row] < length:  # what was padded must not be seen by what follows
                self.context.clear(sequence.slot, int(starts[row] + real[row]))
            scheduler.prefilled(sequence, int(real[row]))
        self.stats.prefill_calls += 1
        self.stats.prefill_tokens += int(real.sum())
        self.stats.padding_tokens += n * length - int(real.sum())
        self.stats.prefill_seconds += time.perf_counter() - started
        return ready, logits

    def _decode(self, step: Decode) -> tuple[list[Sequence], np.ndarray]:
        started = time.perf_counter()
        for _, source, target in step.moves:
            self.context.restore(target, self.context.save(source))
            self.context.clear(source)
        # A row per slot, from slot 0 on; what an idle slot says is not listened to.
        n_rows = len(step.sequences) + len(step.idle_slots)
        token, position = np.zeros((2, n_rows), np.int32)
        for sequence in step.sequences:
            token[sequence.slot] = sequence.tokens[-1]
            position[sequence.slot] = sequence.n_prompt + len(sequence.tokens) - 1
        self._batch.fill(token, position, np.arange(n_rows), 1)
        logits = self.context.decode(self._batch, n_rows)
        if step.idle_slots:
            logits = logits[[sequence.slot for sequence in step.sequences]]
        for idle in step.idle_slots:
            self.context.clear(idle)
        self.stats.decode_calls += 1
        self.stats.decode_tokens += len(step.sequences)
        self.stats.padding_tokens += len(step.idle_slots)
        self.stats.decode_seconds += time.perf_counter() - started
        return step.sequences, logits

    def _sample(self, logits: np.ndarray, sequences: list[_Running]) -> list[int]:
        """One token for each row of logits [len(sequences), vocab]; changes the logits."""
        by_params: dict[Any, list[int]] = {}
        for row, running in enumerate(sequences):
            params = running.request.params
            if params.repetition_penalty != 1.0:
                seen = np.array([*running.request.prompt, *running.sequence.tokens], np.int64)
                penalize(logits[row], seen, params.repetition_penalty)
            if len(running.sequence.tokens) < params.min_new_tokens:
                logits[row, self.model.end_tokens] = -np.inf
            by_params.setdefault(params, []).append(row)
        tokens = np.zeros(len(sequences), np.int64)
        for params, rows in by_params.items():
            part = logits if len(rows) == len(sequences) else logits[rows]
            uniforms = np.array([sequences[row].uniform() for row in rows])
            tokens[rows] = sample(part, params, uniforms)
        return [int(token) for token in tokens]


def staging_slots(slots: int) -> int:
    """How many staging slots to give a context: enough to make a prefill call worthwhile."""
    return min(8, max(1, slots // 2))


class _Running:
    """A sequence with what grows while it is sampled: its random draws and its text."""

    def __init__(self, sequence: Sequence, model: Model) -> None:
        self.sequence = sequence
        self.request = sequence.request
        self._model = model
        self._end_tokens = set(model.end_tokens.tolist())
        self._random = np.random.default_rng(self.request.seed)
        self._stops = [stop.encode("utf-8", "replace") for stop in self.request.params.stop]
        self._text = bytearray()

    def uniform(self) -> float:
        """The draw for the next token; it depends on the seed and the place alone."""
        return float(self._random.random())

    def accept(self, token: int, cells: int) -> FinishReason | None:
        """Append a token; returns why the sequence ends with it, or None if it goes on."""
        if token in self._end_tokens:
            return "stop"
        tokens, params = self.sequence.tokens, self.request.params
        tokens.append(token)
        before = len(self._text)
        self._text += self._model.piece(token)
        if any(self._text.find(stop, max(0, before - len(stop))) >= 0 for stop in self._stops):
            return "stop"
        full = self.sequence.n_prompt + len(tokens) >= cells
        return "length" if full or len(tokens) >= params.max_new_tokens else None

    def complete(self, reason: FinishReason, error: str = "") -> Completion:
        text = self._text.decode("utf-8", "ignore" if reason == "length" else "replace")
        found = [at for stop in self.request.params.stop if (at := text.find(stop)) >= 0]
        if found:
            text = text[: min(found)]
        return Completion(self.sequence.index, self.sequence.tokens, text, reason, error)
