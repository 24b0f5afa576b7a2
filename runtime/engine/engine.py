"""The open engine: requests come and go while it runs; each step is one llama.cpp call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from runtime.engine.adapters import have_adapters
from runtime.engine.cache import Cache
from runtime.engine.calls import Stopped, check_stop, undisturbed
from runtime.engine.context import Context
from runtime.engine.generation import (
    Completion,
    FinishReason,
    Generation,
    Request,
    Update,
)
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.options import EngineOptions
from runtime.engine.prefixes import PrefixCache
from runtime.engine.rows import Rows
from runtime.engine.runner import Runner
from runtime.engine.sampling import SamplingParams, choose
from runtime.engine.scheduler import Decode, Prefill, Scheduler
from runtime.engine.sharing import MIN_SHARED, Sharing
from runtime.engine.sizing import Layout, longest_prompt
from runtime.engine.stats import Stats
from runtime.engine.waiting import WaitingRoom

log = logging.getLogger(__name__)


class Engine:
    """Completes many prompts at once on one model, with continuous batching.

    `add` requests, `step` until there is no work, `abort` what nobody waits for any more;
    or `generate` a list. An engine owns its model and context: `close()` it or use it in a
    `with`. It is not for several threads at a time.

    Args:
        model: with its adapters loaded, since llama.cpp sizes a context by them; taken over
            and closed with the engine.
        options: how it runs.

    Raises:
        EngineError: no context could be made.

    Attributes:
        stats: what it has done.
    """

    def __init__(self, model: Model, options: EngineOptions | None = None) -> None:
        self.model = model
        self.options = options or EngineOptions()
        self.stats = Stats()
        self._prefixes = PrefixCache()
        patience = self.options.patience
        self._waiting = WaitingRoom(
            8 * self.options.slots if patience is None else patience,
            shared=model.stack is not None,
        )
        self._arrivals: list[Generation] = []
        # Those of a step that was interrupted after its call are returned by the next one.
        self._updates: list[Update] = []
        self._next_number = 0
        self._adapters: dict[str, Path] = {}
        self._may_mix = False
        self._cache = Cache(model, self.options)
        self._runner = Runner(self._cache, self.stats)
        self._scheduler = Scheduler(
            self.layout.slots,
            self.layout.staging,
            self.context.max_tokens,
            self._waiting,
            model.profile.call_cost if self.options.call_cost is None else self.options.call_cost,
            fits=lambda generation: self._cells(generation) <= self.layout.cells,
            rows_at_once=model.profile.rows_at_once,
        )
        self._sharing = Sharing(
            self._prefixes, self._cache, self._runner, self._scheduler, self._resize
        )

    @classmethod
    @undisturbed
    def load(
        cls,
        path: str | Path,
        options: EngineOptions | Callable[[Model], EngineOptions] | None = None,
        adapters: Mapping[str, Path] | None = None,
        progress: Callable[[float], None] | None = None,
        gpu_layers: int = 0,
        main_gpu: int | None = None,
    ) -> Self:
        """Load a GGUF file and the adapters for it, by name, and make an engine of them.

        Args:
            path: the model.
            options: how the engine runs, or a function that says so of the loaded model.
            adapters: GGUF adapters by the names that requests choose them by.
            progress: called with the share of the model that is loaded, 0.0 to 1.0.
            gpu_layers: layers to offload; -1 is all, 0 keeps the model on the CPU.
            main_gpu: index of the GPU to use, or None to let llama.cpp split over all.

        Raises:
            EngineError: a file that llama.cpp cannot load, or too little memory.
        """
        model = Model(path, gpu_layers, main_gpu, progress)
        try:
            if callable(options):
                options = options(model)
            options = options or EngineOptions()
            may_mix = options.mix_adapters and model.profile.mixes_adapters
            check_stop()
            have_adapters(model, adapters or {}, may_mix)
            check_stop()
            engine = cls(model, options)
            engine._adapters, engine._may_mix = dict(adapters or {}), may_mix
            return engine
        except BaseException:
            model.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @undisturbed
    def close(self) -> None:
        """Free context and model. A second call does nothing."""
        self._prefixes.clear()
        self.context.close()
        self.model.close()

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt that leaves room for one new token."""
        return longest_prompt(self.options.cells_per_slot)

    # Requests

    @property
    def has_work(self) -> bool:
        """Whether any request has not ended."""
        return bool(self._updates or self._arrivals or len(self._waiting) or self._scheduler.held)

    @property
    def n_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._scheduler.held)

    @property
    def n_free_slots(self) -> int:
        """Slots, staging ones included, that no request holds."""
        return len(self._scheduler.free_slots())

    @property
    def n_waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._arrivals) + len(self._waiting)

    @property
    def cache_use(self) -> float:
        """The share of the KV cache that holds tokens, 0.0 to 1.0."""
        used = sum(g.n_cached + len(g.tokens) for g in self._scheduler.held)
        return min(1.0, used / self.layout.total_cells)

    def add(self, request: Request) -> int:
        """Take a request in; returns its number, by which updates and `abort` know it.

        Raises:
            EngineError: it cannot be served, and why; or the engine is closed.
        """
        self._refuse_if_closed()
        number = self._next_number
        self._next_number += 1  # a refused request has a number, too
        problem = self._problem(request)
        if problem:
            raise EngineError(problem)
        generation = Generation(number, request)
        self._arrivals.append(generation)
        return generation.index

    @undisturbed
    def abort(self, index: int) -> Completion | None:
        """End a request now and free its slot; what it had, or None if it has ended before."""
        return self._abort(index)

    def _abort(self, index: int) -> Completion | None:
        for generation in self._arrivals:
            if generation.index == index:
                self._arrivals.remove(generation)
                return generation.complete("abort")
        waiting = self._waiting.remove(index)
        if waiting is not None:
            return waiting.complete("abort")
        for generation in self._scheduler.held:
            if generation.index == index:
                return self._end(generation, "abort").completion
        return None

    def step(self) -> list[Update]:
        """Advance by one llama.cpp call at most; what it added to which requests.

        A request ends with an update that has its completion. A call that fails ends the
        requests in it with finish_reason "error"; the others go on.

        What a signal handler raises meanwhile (a KeyboardInterrupt) is raised soon, and costs
        no request anything: the next step goes on.

        Raises:
            EngineError: the engine is closed.
        """
        updates = self._step()
        self._updates = []
        return updates

    @undisturbed
    def _step(self) -> list[Update]:
        self._refuse_if_closed()
        self._updates += self._advance()
        return self._updates

    def _advance(self) -> list[Update]:
        if self._arrivals:
            self._sharing.prepare(self._arrivals)
        while self._arrivals:
            self._waiting.add(self._arrivals.pop(0))
        failed = self._make_room()
        step = self._scheduler.next_step()
        if step is None:
            self._prefixes.trim()
            return failed
        try:
            # Those that wait for their next step count, too: switching costs llama.cpp's plans.
            held = self._scheduler.held
            self._runner.use({g.request.adapter for g in held}, self._n_best(held))
            if isinstance(step, Prefill):
                ready, rows = self._prefill(step)
            else:
                ready, rows = step.generations, self._runner.decode(step)
        except EngineError as error:
            if self.context.closed:
                raise
            return failed + self._fail(step, str(error))
        except Stopped:  # nothing has changed, but that moves are done
            self._updates += failed
            raise
        except BaseException as error:
            self._updates += failed + self._fail(step, f"{type(error).__name__}: {error}")
            raise
        ended = [g for g in step.generations if not g.n_to_prefill and g not in ready]
        return [
            *failed,
            *(self._end(generation, "length") for generation in ended),
            *self._sample(ready, rows),
        ]

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Complete a list of requests; yields each as it ends, in no particular order.

        A completion's `index` is the request's place in the list, and its `tag` the request's.
        A request that cannot be served gets a completion with finish_reason "error"; the others
        go on.

        Raises:
            EngineError: the engine is closed or busy.
        """
        self._refuse_if_closed()
        if self.has_work:
            raise EngineError("the engine is busy: finish or close the running generate() first")
        first = self._next_number
        problems: list[Completion] = []
        try:
            for request in requests:
                number = self._next_number
                try:
                    self.add(request)
                except EngineError as error:
                    problem = Completion(number, [], "", "error", str(error), tag=request.tag)
                    problems.append(problem)
            for problem in problems:
                yield replace(problem, index=problem.index - first)
            while self.has_work:
                for update in self.step():
                    if update.completion is not None:
                        yield replace(update.completion, index=update.index - first)
        finally:
            self._abandon(first, first + len(requests))

    @undisturbed
    def _abandon(self, first: int, end: int) -> None:
        """End all requests with these numbers, for a caller who is gone."""
        if self.context.closed:
            return
        for number in range(first, end):
            self._abort(number)
        self._updates = [update for update in self._updates if not first <= update.index < end]
        self._prefixes.trim()

    def log_likelihoods(
        self,
        prompt: Sequence[int],
        continuations: Sequence[Sequence[int]],
        adapter: str | None = None,
    ) -> list[np.ndarray]:
        """How likely the model finds each continuation of a prompt, whatever it would write.

        Returns:
            for each continuation the log-probability of each of its tokens, float64
            [len(continuation)], in nats.

        Raises:
            EngineError: a prompt or continuation that is empty, too long or has unknown
                tokens, no such adapter, or busy.
        """
        nothing_new = SamplingParams(max_new_tokens=0)
        for tokens in [prompt, *continuations]:
            if problem := self._problem(Request(tokens, adapter=adapter)):
                raise EngineError(problem)
        requests = [
            Request(
                [*prompt, *tokens], nothing_new, 0, adapter, "likelihoods", score_from=len(prompt)
            )
            for tokens in continuations
        ]
        completions = sorted(self.generate(requests), key=lambda completion: completion.index)
        for completion in completions:
            if completion.finish_reason == "error":
                raise EngineError(completion.error)
        return [
            np.array([choice.logprob for choice in completion.prompt_scores], np.float64)
            for completion in completions
        ]

    @undisturbed
    def share_prefixes(self, prefixes: Sequence[tuple[str | None, Sequence[int]]]) -> None:
        """Decode prefixes now and keep them for good, for requests that begin with them.

        Those of fewer than `MIN_SHARED` tokens are not worth it and are ignored.

        Args:
            prefixes: for each the adapter it is for, and its token ids.

        Raises:
            EngineError: too long or unknown tokens, no such adapter, or busy.
        """
        self._refuse_if_closed()
        if self.has_work:
            raise EngineError("the engine is busy")
        wanted = [(adapter, tuple(p)) for adapter, p in prefixes if len(p) >= MIN_SHARED]
        for adapter, tokens in wanted:
            if problem := self._problem(Request(tokens, adapter=adapter)):
                raise EngineError(problem)
        self._sharing.save(wanted)
        for adapter, tokens in wanted:
            self._prefixes.pin(adapter, tokens)

    # Adapters

    def load_adapter(self, name: str, path: Path) -> None:
        """Load one more adapter. Makes the context anew, since llama.cpp sizes it by them.

        Raises:
            EngineError: not an adapter for this model, the name is taken, or busy; or there is
                no room for a context, and the engine is closed.
        """
        if name in self.model.adapters:
            raise EngineError(f"an adapter named {name!r} is loaded already")
        self._change_adapters({**self._adapters, name: path})

    def unload_adapter(self, name: str) -> None:
        """Free an adapter, and what is saved of prefixes with it. Raises EngineError as above."""
        if name not in self._adapters:
            raise EngineError(f"no adapter named {name!r} is loaded")
        self._change_adapters({n: path for n, path in self._adapters.items() if n != name})
        self._prefixes.forget(name)

    @undisturbed
    def _change_adapters(self, wanted: dict[str, Path]) -> None:
        self._refuse_if_closed()
        if self.has_work:
            raise EngineError("the engine is busy")
        self.context.close()
        try:
            have_adapters(self.model, wanted, self._may_mix)
            self._adapters = wanted
        except EngineError:
            have_adapters(self.model, self._adapters, self._may_mix)
            raise
        finally:
            self._cache.renew()
            self._waiting.shared = self.model.stack is not None

    # Inside

    def _refuse_if_closed(self) -> None:
        if self.context.closed:
            raise EngineError("this engine has been closed")

    def _problem(self, request: Request) -> str:
        n, params = len(request.prompt), request.params
        if n == 0:
            return "the prompt has no tokens"
        if n > self.max_prompt_tokens:
            return f"the prompt has {n} tokens and a slot takes {self.max_prompt_tokens}"
        if min(request.prompt) < 0 or max(request.prompt) >= self.model.n_vocab:
            return "the prompt has a token id that the model does not know"
        if request.score_from is not None and not 1 <= request.score_from <= n:
            return f"score_from is {request.score_from}, not 1 to {n}"
        if params.max_new_tokens < (request.score_from is None):
            return "max_new_tokens is below 1"
        if not all(params.stop):
            return "an empty stop string"
        if request.adapter is not None and request.adapter not in self.model.adapters:
            return f"no adapter named {request.adapter!r} is loaded"
        return ""

    def _n_best(self, generations: Sequence[Generation]) -> int | None:
        """Of how many of a row's likeliest tokens all of them know what to draw; None is all."""
        wanted = [generation.n_likeliest for generation in generations]
        if None in wanted:
            return None
        return max(n for n in wanted if n is not None) + len(self.model.end_tokens)

    def _prefill(self, step: Prefill) -> tuple[list[Generation], Rows]:
        ready, rows = self._runner.prefill(step)
        for generation in step.generations:
            self._scheduler.prefilled(generation, min(step.length, generation.n_to_prefill))
        return ready, rows

    def _sample(self, generations: list[Generation], rows: Rows) -> list[Update]:
        """A token for each row of logits, and what came of it."""
        if not generations:
            return []
        with self.stats.timed("sampling_seconds"):
            draws = [generation.draw() for generation in generations]
            choices = choose(rows, draws, self.model.end_tokens)
            self.stats.new_tokens += len(choices)
            updates = []
            for generation, choice in zip(generations, choices, strict=True):
                token = choice.token
                is_end, piece = self.model.is_end(token), self.model.piece(token)
                reason = generation.accept(choice, is_end, piece, self.options.cells_per_slot)
                updates.append(self._end(generation, reason) if reason else generation.update())
            return updates

    def _end(self, generation: Generation, reason: FinishReason, error: str = "") -> Update:
        """Take out one that holds a slot."""
        self._scheduler.finish(generation)
        if not self.context.closed:
            self.context.clear(generation.slot)
        return generation.update(generation.complete(reason, error))

    def _fail(self, step: Prefill | Decode, error: str) -> list[Update]:
        updates = [self._end(generation, "error", error) for generation in step.generations]
        # The step may have stopped half way: keep only what is known to be whole.
        for slot in self._scheduler.free_slots():
            self.context.clear(slot)
        return updates

    # The cache's layout

    @property
    def context(self) -> Context:
        """The llama.cpp context of now; another takes its place when requests need it."""
        return self._cache.context

    @property
    def layout(self) -> Layout:
        """How the cache is laid out now."""
        return self._cache.layout

    def _cells(self, generation: Generation) -> int:
        return min(generation.cells, self.options.cells_per_slot)

    def _make_room(self) -> list[Update]:
        """Lay the cache out anew if what waits needs longer slots, or could have more of them."""
        held = self._scheduler.held
        waiting = self._waiting.next(held)
        if waiting is None or self._scheduler.is_prefilling or not self._cache.can_resize:
            return []
        cells = max(map(self._cells, [waiting, *held]))
        wanted = self._cache.layout_for(
            cells, self._scheduler.padded(len(held) + len(self._waiting))
        )
        too_short = self._cells(waiting) > self.layout.cells
        # A few more slots are not worth it while there is work to do.
        too_few = wanted.slots > self.layout.slots and (
            not held or wanted.slots >= 2 * self.layout.slots
        )
        if not (too_short or too_few) or len(held) > wanted.slots:
            return []
        try:
            self._resize(wanted)
        except EngineError as error:
            if self.context.closed:
                raise
            if too_short:
                self._waiting.remove(waiting.index)
                return [waiting.update(waiting.complete("error", str(error)))]
        return []

    def _resize(self, layout: Layout) -> None:
        with self.stats.timed("resize_seconds"):
            moves = [(g.slot, slot) for slot, g in enumerate(self._scheduler.held)]
            self._cache.resize(layout, moves)
            self._scheduler.resize(layout.slots, layout.staging)
            self.stats.resizes += 1
