"""Requests on their way through the engines: admission, updates, deadlines, hang-ups."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from runtime.engine import Completion, Engine, Update
from runtime.engine.sizing import staging_slots
from runtime.pipeline import Pipeline
from runtime.serve.catalog import Catalog, Served
from runtime.serve.errors import ApiError
from runtime.serve.metrics import Metrics, Times
from runtime.serve.options import Options
from runtime.serve.turns import Turns, client
from runtime.serve.worker import Load, Run, Worker
from runtime.way import Answer, Asked

log = logging.getLogger(__name__)

# Tokens of an answer that have room in the cache from the beginning, whatever `max_tokens` says:
# most answers are shorter, and longer ones may have to wait for more room.
_RESERVED = 512
# In a run's queue they mark its deadline, and the end of the server.
_LATE, _STOPPED = object(), object()


@dataclass(eq=False)
class _Follower(Run):
    """A request, where its updates go, and what is measured of it."""

    asked: Asked
    served: Served
    limited: bool  # as for `Service.running`
    queue: asyncio.Queue[object]  # gets (asked, update); the update is None when it is accepted
    times: Times
    announced: bool = False
    ended: bool = False
    n_new: int = 0

    def announce(self) -> None:
        """Say that it is accepted, once; in the event loop's thread."""
        if not self.announced:
            self.announced = True
            self.queue.put_nowait((self.asked, None))


class _Arrived(NamedTuple):
    follower: _Follower
    update: Update | None
    at: float


class Service:
    """Runs requests on the engines of a pipeline, which nothing else may use, in one event loop."""

    def __init__(self, pipeline: Pipeline, options: Options) -> None:
        self.pipeline = pipeline
        self.settings = pipeline.settings
        self.way = pipeline.way
        self.options = options
        self.catalog = Catalog(
            pipeline.settings, pipeline.routes, pipeline.engines, options.served_model_name
        )
        self.metrics = Metrics(self.catalog.name, lambda: self.load, _cache_config(pipeline))
        engines = pipeline.engines.values()
        self.worker = Worker(engines, self._arrive, self._hand_over, self.metrics.stepped)
        # More than there are slots, so that prompts of similar length can be prefilled together.
        self._turns: dict[Engine, Turns[_Follower]] = {
            engine: Turns(
                engine.options.slots + staging_slots(engine.options.slots), self.worker.submit
            )
            for engine in engines
        }
        self._n_limited = 0
        self._queues: set[asyncio.Queue[object]] = set()  # of what runs and has a deadline
        self._ended: deque[float] = deque(maxlen=64)
        self._arrived: deque[_Arrived] = deque()  # the worker's thread fills and empties it
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to serve, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    def break_off(self) -> None:
        """End all requests but those in the background with an error that says why."""
        for queue in self._queues:
            queue.put_nowait(_STOPPED)

    async def stop(self) -> None:
        """End the worker; what still runs ends with an error."""
        await asyncio.to_thread(self.worker.stop)

    @property
    def load(self) -> Load:
        """How busy the engines are, with those that wait for their client's turn."""
        load = self.worker.load
        return replace(load, waiting=load.waiting + sum(map(len, self._turns.values())))

    @property
    def slots(self) -> int:
        """How many requests run at once at most."""
        return sum(engine.options.slots for engine in self.pipeline.engines.values())

    @asynccontextmanager
    async def running(
        self, served: Served, asked: Sequence[Asked], limited: bool = True, streamed: bool = False
    ) -> AsyncIterator[AsyncIterator[tuple[Asked, Update | None]]]:
        """Run requests; yields their updates, each with what was asked.

        Before its first update each request has one that is None: it is accepted. When the block
        is left, in whatever way, what still runs is ended and frees its slots.

        Args:
            limited: they count for the queue's limit, take turns with those of other clients, and
                are given up at the deadline. Otherwise they are in the background: all others go
                first, and may interrupt them.
            streamed: their tokens are sent as they come.

        Raises:
            ApiError: too many wait (429), the deadline is over (504), the engine failed (500).
        """
        if limited:
            self._refuse_if_full(len(asked))
        assert self._loop is not None
        queue: asyncio.Queue[object] = asyncio.Queue()
        times, followers = Times(time.perf_counter()), []
        for each in asked:
            request = replace(
                each.request,
                # A conversation may go on; the lines of a batch are unrelated.
                keep=limited and each.request.score_from is None,
                streamed=streamed,
                background=not limited,
                reserve=_RESERVED,
            )
            follower = _Follower(
                served.engine, request, each, served, limited, queue, replace(times)
            )
            followers.append(follower)
        self._n_limited += limited * len(followers)
        for follower in followers:
            if not limited:
                self.worker.submit(follower)
            elif not self._turns[follower.engine].add(client.get(), follower):
                follower.announce()  # it waits here
        alarm = None
        if limited:
            self._queues.add(queue)
            alarm = self._loop.call_later(self.options.deadline, queue.put_nowait, _LATE)
        try:
            yield self._updates(queue, len(followers), limited)
        finally:
            self._queues.discard(queue)
            if alarm is not None:
                alarm.cancel()
            for follower in reversed(followers):  # first those that wait for their turn
                if not follower.ended:
                    self.worker.abort(follower)
                    self._end(follower, "abort")

    async def _updates(
        self, queue: asyncio.Queue[object], left: int, limited: bool
    ) -> AsyncIterator[tuple[Asked, Update | None]]:
        end = time.monotonic() + self.options.deadline
        while left:
            item = await queue.get()
            if item is _STOPPED:
                raise ApiError(503, "the server is stopping", code="server_stopping")
            # A client that does not read lets updates pile up before the deadline's mark.
            if item is _LATE or (limited and time.monotonic() > end):
                seconds = f"{self.options.deadline:g}"
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
        free = max(0, self.slots - self._n_limited)
        waiting = max(0, self._n_limited - self.slots)
        more = max(1, count - free)  # that will have to wait
        if waiting + more <= self.options.queue:
            return
        if count > self.options.queue + self.slots:
            raise ApiError(
                400,
                f"{count} requests in one body are too many here: send at most"
                f" {self.options.queue + self.slots}, or a batch",
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

    def _arrive(self, follower: _Follower, update: Update | None) -> None:
        self._arrived.append(_Arrived(follower, update, time.perf_counter()))

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
            if update is None:
                follower.announce()
                continue
            follower.announced = True
            follower.queue.put_nowait((follower.asked, update))
            completion = update.completion
            if update.n_tokens:
                follower.n_new += update.n_tokens
                self.metrics.token(follower.times, at)
            if completion is not None:
                self._end(follower, completion.finish_reason, at, completion)

    def _end(
        self,
        follower: _Follower,
        reason: str,
        at: float | None = None,
        completion: Completion | None = None,
    ) -> None:
        """Note that a request has ended, and let the next one have its turn."""
        follower.ended = True
        now = time.perf_counter() if at is None else at
        follower.times.last = now
        if completion is not None:
            follower.times.began = completion.began
        n_restored = completion.n_restored if completion else 0
        self.metrics.ended(
            follower.served.id,
            follower.times,
            reason,
            len(follower.request.prompt),
            follower.n_new,
            n_restored,
        )
        if follower.limited:
            self._n_limited -= 1
            self._turns[follower.engine].end(follower)
            if reason in ("stop", "length"):
                self._ended.append(now)


def _cache_config(pipeline: Pipeline) -> dict[str, str]:
    """How the first engine's KV cache is divided, in vLLM's words: a block is a slot."""
    engine = next(iter(pipeline.engines.values()))
    options = engine.options
    return {
        "block_size": str(options.cells_per_slot),
        "num_gpu_blocks": str(options.slots),
        "num_cpu_blocks": "0",
        "cache_dtype": options.cache_type,
        "enable_prefix_caching": str(options.prefix_bytes > 0),
    }
