"""Requests on their way through the engines: admission, updates, deadlines, hang-ups."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from runtime.engine import Request, Update
from runtime.pipeline import Pipeline
from runtime.serve.catalog import Catalog, Served
from runtime.serve.errors import ApiError
from runtime.serve.metrics import Metrics
from runtime.serve.worker import Ticket, Worker

log = logging.getLogger(__name__)

_LATE = object()  # stands in a run's queue for its deadline


@dataclass(frozen=True)
class Limits:
    """How much is taken in.

    Attributes:
        queue: requests that may wait for a slot; beyond that the answer is 429.
        deadline: seconds until a request is given up.
    """

    queue: int = 1024
    deadline: float = 600.0


@dataclass
class _Follower:
    """Where the updates of a ticket go, and what is measured of it."""

    queue: asyncio.Queue[object]
    index: int
    model: str
    limited: bool
    n_prompt: int
    first: float = 0.0
    last: float = 0.0
    n_new: int = 0


@dataclass
class _Arrived:
    ticket: Ticket
    update: Update
    at: float = field(default_factory=time.perf_counter)


class Service:
    """Runs requests on a pipeline's engines. To be used in one event loop.

    Args:
        pipeline: loaded, and nobody else's while this runs; not owned.
        limits: how much is taken in.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self.pipeline = pipeline
        self.settings = pipeline.settings
        self.limits = limits
        self.catalog = Catalog(pipeline.settings, pipeline.routes, pipeline.engines)
        self.worker = Worker(pipeline.engines.values(), self._hand_over)
        self.metrics = Metrics(pipeline.settings.model_name, lambda: self.worker.load)
        self._followers: dict[Ticket, _Follower] = {}
        self._n_limited = 0
        self._ended: deque[float] = deque(maxlen=64)
        self._arrived: list[_Arrived] = []  # the worker's thread fills it
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
        self, served: Served, requests: Sequence[Request], limited: bool = True
    ) -> AsyncIterator[AsyncIterator[tuple[int, Update]]]:
        """Run requests; yields their updates, each with its request's place.

        When the block is left, in whatever way, what still runs is ended and frees its slots.

        Args:
            served: whose engine runs them.
            limited: they count for the queue's limit.

        Raises:
            ApiError: too many wait (429), the deadline is over (504), the engine failed (500).
        """
        if limited:
            self._refuse_if_full()
        assert self._loop is not None
        queue: asyncio.Queue[object] = asyncio.Queue()
        tickets = [Ticket(served.engine, request, self._deliver) for request in requests]
        for index, ticket in enumerate(tickets):
            n_prompt = len(ticket.request.prompt)
            self._followers[ticket] = _Follower(queue, index, served.id, limited, n_prompt)
        self._n_limited += limited * len(tickets)
        for ticket in tickets:
            self.worker.submit(ticket)
        alarm = self._loop.call_later(self.limits.deadline, queue.put_nowait, _LATE)
        try:
            yield self._updates(queue, len(tickets))
        finally:
            alarm.cancel()
            for ticket in tickets:
                if ticket in self._followers:
                    self.worker.abort(ticket)
                    self._forget(ticket, "abort")

    async def _updates(
        self, queue: asyncio.Queue[object], left: int
    ) -> AsyncIterator[tuple[int, Update]]:
        while left:
            item = await queue.get()
            if item is _LATE:
                seconds = f"{self.limits.deadline:g}"
                raise ApiError(
                    504, f"not done after {seconds} seconds, and given up", code="timeout"
                )
            assert isinstance(item, tuple)
            index, update = item
            if update.completion is not None:
                left -= 1
                if update.completion.finish_reason == "error":
                    raise ApiError(500, update.completion.error, code="engine_error")
            yield index, update

    def _refuse_if_full(self) -> None:
        if self.worker.failure:
            raise ApiError(503, f"the engine has failed: {self.worker.failure}")
        waiting = self._n_limited - self.worker.load.running
        if waiting < self.limits.queue:
            return
        self.metrics.refused.labels("queue").inc()
        raise ApiError(
            429,
            f"{waiting} requests wait already: try again later",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(self._seconds_for(waiting))},
        )

    def _seconds_for(self, requests: int) -> int:
        """About how long so many requests take, in whole seconds, 1 to 60."""
        if len(self._ended) < 2:
            return 5
        took = (time.perf_counter() - self._ended[0]) / len(self._ended)
        return max(1, min(60, math.ceil(requests * took)))

    # From the worker's thread to the loop's, a call for each step

    def _deliver(self, ticket: Ticket, update: Update) -> None:
        self._arrived.append(_Arrived(ticket, update))

    def _hand_over(self) -> None:
        if self._arrived and self._loop is not None:
            arrived, self._arrived = self._arrived, []
            try:
                self._loop.call_soon_threadsafe(self._dispatch, arrived)
            except RuntimeError:  # the loop has been closed: nobody waits any more
                log.debug("updates after the end")

    def _dispatch(self, arrived: Sequence[_Arrived]) -> None:
        for item in arrived:
            follower = self._followers.get(item.ticket)
            if follower is None:
                continue
            self._measure(follower, item)
            follower.queue.put_nowait((follower.index, item.update))
            completion = item.update.completion
            if completion is not None:
                follower.n_new = len(completion.tokens)
                self._forget(item.ticket, completion.finish_reason, item.at)

    def _measure(self, follower: _Follower, item: _Arrived) -> None:
        if not follower.first:
            follower.first = item.at
            waited = item.at - item.ticket.submitted
            self.metrics.first_token.labels(follower.model, "0").observe(waited)
        else:
            gap = item.at - follower.last
            self.metrics.between_tokens.labels(follower.model, "0").observe(gap)
        follower.last = item.at
        follower.n_new += 1

    def _forget(self, ticket: Ticket, reason: str, at: float | None = None) -> None:
        """Take out a ticket that has ended, and note what it was."""
        follower = self._followers.pop(ticket)
        self._n_limited -= follower.limited
        now = time.perf_counter() if at is None else at
        labels, metrics = (follower.model, "0"), self.metrics
        metrics.prompt_tokens.labels(*labels).inc(follower.n_prompt)
        metrics.generation_tokens.labels(*labels).inc(follower.n_new)
        metrics.success.labels(*labels, reason).inc()
        if reason in ("stop", "length"):
            self._ended.append(now)
            metrics.whole.labels(*labels).observe(now - ticket.submitted)
            metrics.prompt_length.labels(*labels).observe(follower.n_prompt)
            metrics.length.labels(*labels).observe(follower.n_new)
            if follower.n_new > 1:
                each = (now - follower.first) / (follower.n_new - 1)
                metrics.per_token.labels(*labels).observe(each)
