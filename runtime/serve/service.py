"""Requests on their way through the engines: admission, updates, deadlines, hang-ups."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from runtime.engine import Completion, Engine, Update
from runtime.pipeline import Pipeline
from runtime.serve.catalog import Catalog, Served
from runtime.serve.errors import ApiError
from runtime.serve.metrics import Metrics
from runtime.serve.worker import Run, Worker
from runtime.way import Answer, Asked

log = logging.getLogger(__name__)

_LATE = object()  # stands in a run's queue for its deadline


@dataclass(frozen=True)
class Limits:
    """How many requests are accepted.

    Attributes:
        queue: requests that may wait for a slot; further ones are answered 429.
        deadline: seconds until a request is given up.
    """

    queue: int = 1024
    deadline: float = 600.0


class _Follower(Run):
    """A request, where its updates go, and what is measured of it.

    Args:
        asked: what it is for.
        model: the name of the model, for the metrics.
        limited: it counts for the queue's limit.
        streamed: its tokens are sent as they come.
        queue: gets (asked, update); the update is None when the engine has accepted it.
        arrived: gets updates from the worker's thread.
    """

    def __init__(
        self,
        engine: Engine,
        asked: Asked,
        model: str,
        limited: bool,
        streamed: bool,
        queue: asyncio.Queue[object],
        arrived: Callable[[_Arrived], None],
    ) -> None:
        # A conversation may go on; a batch is a list of questions that have nothing to do with
        # one another.
        keep = limited and asked.request.score_from is None
        super().__init__(engine, replace(asked.request, keep=keep, streamed=streamed))
        self.asked = asked
        self.model = model
        self.limited = limited
        self.queue = queue
        self.ended = False
        self.first = 0.0  # when its first token came, by `time.perf_counter`
        self.last = 0.0
        self.n_new = 0
        self._arrived = arrived

    @property
    def n_prompt(self) -> int:
        return len(self.request.prompt)

    def accepted(self) -> None:
        self._arrived(_Arrived(self, None, time.perf_counter()))

    def deliver(self, update: Update) -> None:
        self._arrived(_Arrived(self, update, time.perf_counter()))


class _Arrived(NamedTuple):
    follower: _Follower
    update: Update | None
    at: float


class Service:
    """Runs requests on a pipeline's engines, in one event loop.

    Args:
        pipeline: loaded; nothing else may use it meanwhile. Not owned.
        limits: how many requests are accepted.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self.pipeline = pipeline
        self.settings = pipeline.settings
        self.way = pipeline.way
        self.limits = limits
        self.catalog = Catalog(pipeline.settings, pipeline.routes, pipeline.engines)
        self.worker = Worker(pipeline.engines.values(), self._hand_over)
        self.metrics = Metrics(pipeline.settings.model_name, lambda: self.worker.load)
        self._n_limited = 0
        self._ended: deque[float] = deque(maxlen=64)
        self._arrived: deque[_Arrived] = deque()  # the worker's thread fills and empties it
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to serve, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    async def stop(self) -> None:
        """End the worker; what still runs ends with an error."""
        await asyncio.to_thread(self.worker.stop)

    @property
    def slots(self) -> int:
        """How many requests run at once at most."""
        return sum(engine.options.slots for engine in self.pipeline.engines.values())

    @asynccontextmanager
    async def running(
        self,
        served: Served,
        asked: Sequence[Asked],
        limited: bool = True,
        streamed: bool = False,
    ) -> AsyncIterator[AsyncIterator[tuple[Asked, Update | None]]]:
        """Run requests; yields their updates, each with what was asked.

        Before its first update each request has one that is None: the engine has accepted it.

        When the block is left, in whatever way, what still runs is ended and frees its slots.

        Args:
            served: whose engine runs them.
            asked: their requests are run.
            limited: they count for the queue's limit, and are given up at the deadline.
            streamed: their tokens are sent as they come.

        Raises:
            ApiError: too many wait (429), the deadline is over (504), the engine failed (500).
        """
        if limited:
            self._refuse_if_full(len(asked))
        assert self._loop is not None
        queue: asyncio.Queue[object] = asyncio.Queue()
        arrived = self._arrived
        followers = [
            _Follower(served.engine, each, served.id, limited, streamed, queue, arrived.append)
            for each in asked
        ]
        self._n_limited += limited * len(followers)
        for follower in followers:
            self.worker.submit(follower)
        alarm = None
        if limited:
            alarm = self._loop.call_later(self.limits.deadline, queue.put_nowait, _LATE)
        try:
            yield self._updates(queue, len(followers))
        finally:
            if alarm is not None:
                alarm.cancel()
            for follower in followers:
                if not follower.ended:
                    self.worker.abort(follower)
                    self._end(follower, "abort")

    async def _updates(
        self, queue: asyncio.Queue[object], left: int
    ) -> AsyncIterator[tuple[Asked, Update | None]]:
        while left:
            item = await queue.get()
            if item is _LATE:
                seconds = f"{self.limits.deadline:g}"
                raise ApiError(
                    504, f"not done after {seconds} seconds, and given up", code="timeout"
                )
            assert isinstance(item, tuple)
            asked, update = item
            if update is not None and update.completion is not None:
                left -= 1
                if update.completion.finish_reason == "error":
                    raise ApiError(500, update.completion.error, code="engine_error")
            yield asked, update

    async def finish(self, asked: Asked, completion: Completion) -> Answer:
        """The answer in a completion, which is kept in the answer cache if there is one."""
        if asked.cached:
            await asyncio.to_thread(self.way.keep, asked, completion)
        return self.way.finish(asked, completion)

    def _refuse_if_full(self, count: int) -> None:
        """Raises ApiError where `count` more requests would be too many."""
        if self.worker.failure:
            raise ApiError(503, f"the engine has failed: {self.worker.failure}")
        running = self.worker.load.running
        waiting = self._n_limited - running
        more = max(1, count - max(0, self.slots - running))  # that will have to wait
        if waiting + more <= self.limits.queue:
            return
        if more > self.limits.queue:
            raise ApiError(
                400,
                f"{count} requests in one body are too many here: send at most"
                f" {self.limits.queue + self.slots}, or a batch",
                code="too_many_requests_in_body",
            )
        self.metrics.refused.labels("queue").inc()
        raise ApiError(
            429,
            f"{waiting} requests wait already: try again later",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(self._seconds_for(waiting))},
        )

    def _seconds_for(self, requests: int) -> int:
        """About how long a number of requests takes, in whole seconds, 1 to 60."""
        if len(self._ended) < 2:
            return 5
        took = (time.perf_counter() - self._ended[0]) / len(self._ended)
        return max(1, min(60, math.ceil(requests * took)))

    # From the worker's thread to the loop's, a call for each step

    def _hand_over(self) -> None:
        arrived = []
        while self._arrived:
            arrived.append(self._arrived.popleft())
        if arrived and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._dispatch, arrived)
            except RuntimeError:  # the loop has been closed: nothing waits any more
                log.debug("updates after the end")

    def _dispatch(self, arrived: Sequence[_Arrived]) -> None:
        for follower, update, at in arrived:
            if follower.ended:
                continue
            follower.queue.put_nowait((follower.asked, update))
            if update is None:
                continue
            self._measure(follower, at)
            completion = update.completion
            if completion is not None:
                follower.n_new = len(completion.tokens)
                self._note_prefix(follower, completion)
                self._end(follower, completion.finish_reason, at)

    def _measure(self, follower: _Follower, at: float) -> None:
        labels = (follower.model, "0")
        if not follower.first:
            follower.first = at
            self.metrics.first_token.labels(*labels).observe(at - follower.submitted)
        else:
            self.metrics.between_tokens.labels(*labels).observe(at - follower.last)
        follower.last = at
        follower.n_new += 1

    def _note_prefix(self, follower: _Follower, completion: Completion) -> None:
        """Count how much of a prompt was found in the prefix cache."""
        if completion.finish_reason in ("stop", "length"):
            labels = (follower.model, "0")
            self.metrics.prefix_queries.labels(*labels).inc(follower.n_prompt)
            self.metrics.prefix_hits.labels(*labels).inc(completion.n_restored)

    def _end(self, follower: _Follower, reason: str, at: float | None = None) -> None:
        """Note what a request that has ended was."""
        follower.ended = True
        self._n_limited -= follower.limited
        now = time.perf_counter() if at is None else at
        labels, metrics, n_prompt = (follower.model, "0"), self.metrics, follower.n_prompt
        metrics.prompt_tokens.labels(*labels).inc(n_prompt)
        metrics.generation_tokens.labels(*labels).inc(follower.n_new)
        metrics.success.labels(*labels, reason).inc()
        if reason in ("stop", "length"):
            self._ended.append(now)
            metrics.whole.labels(*labels).observe(now - follower.submitted)
            metrics.prompt_length.labels(*labels).observe(n_prompt)
            metrics.length.labels(*labels).observe(follower.n_new)
            if follower.n_new > 1:
                each = (now - follower.first) / (follower.n_new - 1)
                metrics.per_token.labels(*labels).observe(each)
