"""The open engine: requests come and go while it runs; each step is one llama.cpp call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from runtime.engine.calls import Stopped, undisturbed
from runtime.engine.context import Context
from runtime.engine.generation import (
    Completion,
    FinishReason,
    Generation,
    Request,
    Update,
    why_refused,
)
from runtime.engine.llama import EngineError
from runtime.engine.model import Model
from runtime.engine.options import EngineOptions
from runtime.engine.sampling import Choice, SamplingParams, choose
from runtime.engine.sharing import MIN_SHARED
from runtime.engine.sizing import Layout, longest_prompt
from runtime.engine.slots import Slots
from runtime.engine.stats import Stats
from runtime.engine.step import Result, Step


class Engine:
    """Completes many prompts at once on one model, with continuous batching.

    `add` requests, `step` until there is no work, `abort` what is no longer wanted; or
    `generate` a list. An engine owns its model and context: `close()` it or use it in a
    `with`. Use it from one thread at a time.

    Args:
        model: taken over, with the adapters that it has, and closed with the engine.
        adapters: GGUF adapters to load beside those, by the names that requests choose them by.

    Raises:
        EngineError: an adapter cannot be loaded, no context could be made, or the files are
            damaged so that what they compute is not numbers. The model is still the caller's.
    """

    @undisturbed
    def __init__(
        self,
        model: Model,
        options: EngineOptions | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        self.model = model
        self.options = options or EngineOptions()
        self.stats = Stats()
        self._slots = Slots(model, self.options, {**model.adapters, **(adapters or {})}, self.stats)
        self.stats.reset()
        self._generations: dict[int, Generation] = {}  # those that have not ended, by number
        self._next_number = 0
        # Those of a step that was interrupted after its call are returned by the next one.
        self._updates: list[Update] = []

    @classmethod
    def load(
        cls,
        path: str | Path,
        options: EngineOptions | None = None,
        adapters: Mapping[str, Path] | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        gpu_layers: int = 0,
        main_gpu: int | None = None,
    ) -> Self:
        """Load a GGUF file and the adapters for it, by name, and make an engine of them.

        `progress`, `gpu_layers` and `main_gpu` are as for `Model`.

        Raises:
            EngineError: a file that llama.cpp cannot load, or too little memory.
        """
        model = Model(path, gpu_layers, main_gpu, progress)
        try:
            return cls(model, options, adapters)
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
        self._slots.sharing.saved.clear()
        self.context.close()
        self.model.close()

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt that leaves room for one new token."""
        return longest_prompt(self.options.cells_per_slot)

    @property
    def context(self) -> Context:
        """The current llama.cpp context; replaced when requests need another."""
        return self._slots.context

    @property
    def layout(self) -> Layout:
        """How the cache is divided now."""
        return self._slots.cache.layout

    # Requests

    @property
    def has_work(self) -> bool:
        """Whether a request has not ended, or its end was not reported yet."""
        return bool(self._generations or self._updates)

    @property
    def n_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._slots.scheduler.held)

    @property
    def n_waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._slots.arrivals) + len(self._slots.waiting)

    @property
    def cache_use(self) -> float:
        """The share of the KV cache that holds tokens, 0.0 to 1.0."""
        used = sum(g.n_cached + len(g.tokens) for g in self._slots.scheduler.held)
        return min(1.0, used / self.layout.total_cells)

    def add(self, request: Request) -> int:
        """Take a request in; returns its number, by which updates and `abort` know it.

        Raises:
            EngineError: it cannot be served, and why; or the engine is closed.
        """
        self._refuse_if_closed()
        number = self._next_number
        self._next_number += 1  # a refused request has a number, too
        self._refuse_if_wrong(request)
        generation = Generation(number, request, self._slots.most_cells)
        self._generations[number] = generation
        self._slots.arrivals.add(generation)
        return number

    @undisturbed
    def abort(self, index: int) -> Completion | None:
        """End a request and free its slot; returns its completion so far, None if it had ended."""
        generation = self._generations.get(index)
        return self._end(generation, "abort").completion if generation else None

    def give_way(self) -> None:
        """Stop the running step if it is for background requests alone; from any thread."""
        self._slots.runner.give_way()

    def step(self) -> list[Update]:
        """Advance by at most one llama.cpp call; returns what it added to which requests.

        A request ends with an update that has its completion. A call that fails, or logits that
        are not numbers, end the requests in it with finish_reason "error"; the others go on.

        What a signal handler raises meanwhile (a KeyboardInterrupt) is raised soon, and costs
        no request anything: the next step goes on.

        Raises:
            EngineError: the engine is closed.
        """
        updates, self._updates = self._advance(), []
        return updates

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Complete a list of requests; yields each as it ends, in no particular order.

        A completion's `index` is the request's place in the list, and its `tag` the request's.
        A request that cannot be served gets a completion with finish_reason "error".

        Raises:
            EngineError: the engine is closed or busy.
        """
        self._refuse_if_closed()
        if self.has_work:
            raise EngineError("the engine is busy: finish or close the running generate() first")
        first = self._next_number
        problems: list[Completion] = []
        self._slots.set_patience(in_list=True)
        try:
            for request in requests:
                number = self._next_number
                try:
                    self.add(request)
                except EngineError as error:
                    why = str(error)
                    problems.append(Completion(number, [], "", "error", why, tag=request.tag))
            for problem in problems:
                yield replace(problem, index=problem.index - first)
            while self.has_work:
                for update in self.step():
                    if update.completion is not None:
                        yield replace(update.completion, index=update.index - first)
        finally:
            self._abandon(first, first + len(requests))
            self._slots.set_patience(in_list=False)

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
            EngineError: a prompt or continuation that `add` would refuse, or busy.
        """
        for tokens in [prompt, *continuations]:
            self._refuse_if_wrong(Request(tokens, adapter=adapter))
        nothing_new, start = SamplingParams(max_new_tokens=0), len(prompt)
        requests = [
            Request([*prompt, *tokens], nothing_new, 0, adapter, "likelihoods", start)
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

        Each has the adapter that it is for, and token ids; fewer than `MIN_SHARED` are ignored.

        Raises:
            EngineError: too long or unknown tokens, no such adapter, or busy.
        """
        self._refuse_if_busy()
        wanted = [(adapter, tuple(p)) for adapter, p in prefixes if len(p) >= MIN_SHARED]
        for adapter, tokens in wanted:
            self._refuse_if_wrong(Request(tokens, adapter=adapter))
        self._slots.pin(wanted)

    # Adapters

    def load_adapter(self, name: str, path: Path) -> None:
        """Load one more adapter. Makes the context anew, since llama.cpp sizes it by them.

        Raises:
            EngineError: not an adapter for this model, damaged, the name is taken, or busy; or
                there is no room for a context, and the engine is closed.
        """
        if name in self.model.adapters:
            raise EngineError(f"an adapter named {name!r} is loaded already")
        self._change_adapters({**self.model.adapters, name: path})

    def unload_adapter(self, name: str) -> None:
        """Free an adapter, and what is saved of prefixes with it. Raises EngineError as above."""
        if name not in self.model.adapters:
            raise EngineError(f"no adapter named {name!r} is loaded")
        self._change_adapters({n: p for n, p in self.model.adapters.items() if n != name})
        self._slots.sharing.saved.forget(name)

    @undisturbed
    def _change_adapters(self, wanted: dict[str, Path]) -> None:
        self._refuse_if_busy()
        self._slots.change_adapters(wanted)

    # Inside

    def _refuse_if_closed(self) -> None:
        if self.context.closed:
            raise EngineError("this engine has been closed")

    def _refuse_if_busy(self) -> None:
        self._refuse_if_closed()
        if self.has_work:
            raise EngineError("the engine is busy")

    def _refuse_if_wrong(self, request: Request) -> None:
        if problem := why_refused(request, self.max_prompt_tokens, self.model):
            raise EngineError(problem)

    @undisturbed
    def _advance(self) -> list[Update]:
        """Schedule a step, run it, update what it was for."""
        self._refuse_if_closed()
        self._slots.let_in()
        if without_room := self._slots.make_room():
            generation, error = without_room
            self._updates.append(self._end(generation, "error", error))
        if (step := self._slots.next_step()) is None:
            return self._updates
        try:
            result = self._slots.run(step)
        except EngineError as error:
            if self.context.closed:
                raise
            self._fail(step, str(error))
        except Stopped:  # nothing has changed: the next step is this one
            raise
        except BaseException as error:
            self._fail(step, f"{type(error).__name__}: {error}")
            raise
        else:
            if result is not None:
                self._update(step, result)
        return self._updates

    def _update(self, step: Step, result: Result) -> None:
        """Give generations the tokens and scores of a step, and end those that are complete."""
        self._slots.update(step)
        for generation, scores in zip(step.generations, result.prompt_scores, strict=False):
            if generation.index not in self._generations:  # a prefix that several share
                continue
            generation.prompt_scores += scores
            if not all(math.isfinite(choice.logprob) for choice in scores):
                self._end_damaged(generation)
            elif not generation.n_to_prefill and not generation.wants_tokens:
                self._updates.append(self._end(generation, "length"))
        for generation, choice in self._choices(step, result):
            if generation.index not in self._generations:
                continue  # its scores were damaged
            if choice is None:
                self._end_damaged(generation)
            elif choice.token < 0:
                self._updates.append(self._end(generation, "error", generation.why_no_token))
            else:
                reason = generation.accept(choice, self.model)
                new = self._end(generation, reason) if reason else generation.update()
                self.stats.new_tokens += max(1, new.n_tokens)  # one that ends an answer counts
                self._updates.append(new)
        self._slots.keep_prompts(step)

    def _choices(self, step: Step, result: Result) -> list[tuple[Generation, Choice | None]]:
        """Draw a token from each row of logits."""
        if not step.sampled:
            return []
        with self.stats.timed("sampling_seconds"):
            draws = [generation.draw() for generation in step.sampled]
            choices = choose(result.rows, draws, self.model.end_tokens)
        return list(zip(step.sampled, choices, strict=True))

    def _end(self, generation: Generation, reason: FinishReason, error: str = "") -> Update:
        """Take a generation out, wherever it is."""
        del self._generations[generation.index]
        self._slots.free(generation, keep=reason != "error")
        if not self._generations:
            self._slots.arrivals.stop()
        return generation.update(generation.complete(reason, error))

    def _end_damaged(self, generation: Generation) -> None:
        why = self.model.why_damaged(generation.request.adapter)
        self._updates.append(self._end(generation, "error", why))

    def _fail(self, step: Step, error: str) -> None:
        if any(map(self._slots.arrivals.is_building, step.generations)):
            self._slots.arrivals.stop()
        else:
            self._updates += [self._end(each, "error", error) for each in step.generations]
        self._slots.clear_free()

    @undisturbed
    def _abandon(self, first: int, end: int) -> None:
        """End all requests with these numbers, and drop their updates."""
        for number in range(first, end):
            if generation := self._generations.get(number):
                self._end(generation, "abort")
        self._updates = [update for update in self._updates if not first <= update.index < end]
