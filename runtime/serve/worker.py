"""The one thread that owns the engines: takes requests in, steps, hands updates back."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.engine import Completion, Engine, EngineError, Request, Update

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """A request on its way through an engine, where it is the request's tag.

    `number` is the engine's for it; -1 before it has the request.
    """

    engine: Engine
    request: Request
    number: int = field(default=-1, init=False)


@dataclass(frozen=True)
class Load:
    """How busy the engines are: requests that hold a slot, that wait; share of the cache in use."""

    running: int = 0
    waiting: int = 0
    cache_use: float = 0.0


@dataclass
class _Pause:
    """Something to be done while no engine has work."""

    action: Callable[[], Any]
    future: Future[Any]


class Worker:
    """Runs engines in a thread of its own from `start` to `stop`.

    All other methods may be called from any thread. Nothing else may use the engines
    meanwhile, except what does not change in them: vocabularies and options.

    These are called in the worker's thread:

    Args:
        deliver: with a run and its update, the last of which has a completion; the first is None:
            the engine has accepted the request.
        hand_over: when runs have been accepted, and when all updates of a step were delivered.
        stepped: after each step with its tokens, and the requests that gave way before it.

    Attributes:
        failure: why no request can be served any more, or "".
    """

    def __init__(
        self,
        engines: Iterable[Engine],
        deliver: Callable[[Any, Update | None], None],
        hand_over: Callable[[], None],
        stepped: Callable[[int, int], None],
    ) -> None:
        self.load = Load()
        self.failure = ""
        self._engines = list(engines)
        self._deliver = deliver
        self._hand_over = hand_over
        self._stepped = stepped
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._runs: set[Run] = set()  # those that have not ended
        self._pauses: list[_Pause] = []
        self._held_back: list[Run] = []
        self._thread = threading.Thread(target=self._work, name="engines", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what still runs is aborted, and its updates say so."""
        self._inbox.put(None)
        self._thread.join()

    def submit(self, run: Run) -> None:
        """Take a request in; one that cannot be served ends with an update that says why."""
        self._inbox.put(lambda: self._add(run))
        if not run.request.background:
            for engine in list(self._engines):
                engine.give_way()

    def abort(self, run: Run) -> None:
        """End a request that is not needed any more; it gets no further update."""
        self._inbox.put(lambda: self._abort(run))

    def when_idle(self, action: Callable[[], Any]) -> Future[Any]:
        """Have `action` done in the worker's thread while no engine has work.

        Requests that come meanwhile wait. The future has what it returns or raises.
        """
        future: Future[Any] = Future()
        self._inbox.put(lambda: self._pauses.append(_Pause(action, future)))
        return future

    # In the thread

    def _work(self) -> None:
        while True:
            idle = not any(engine.has_work for engine in self._engines)
            if idle and self._pauses:
                self._do_pauses()
                continue
            if not self._take_commands(wait=idle):
                break
            self._hand_over()  # before a step, which may take long
            for engine in list(self._engines):
                if engine.has_work:
                    self._step(engine)
            self._note_load()
            self._hand_over()
        self._end_all(self._runs, "the server is stopping")
        self._hand_over()
        for pause in self._pauses:
            pause.future.set_exception(EngineError("the server is stopping"))

    def _take_commands(self, wait: bool) -> bool:
        """Carry out what has come in; False to stop."""
        try:
            command = self._inbox.get(block=wait)
            while command is not None:
                command()
                command = self._inbox.get_nowait()
            return False
        except queue.Empty:
            return True

    def _do_pauses(self) -> None:
        for pause in self._pauses:
            try:
                pause.future.set_result(pause.action())
            except Exception as error:
                pause.future.set_exception(error)
        self._pauses.clear()
        held_back, self._held_back = self._held_back, []
        for run in held_back:
            self._add(run)

    def _add(self, run: Run) -> None:
        self._runs.add(run)
        if self._pauses:
            self._held_back.append(run)
            return
        try:
            run.number = run.engine.add(replace(run.request, tag=run))
        except EngineError as error:
            self._end_all([run], str(error))
        else:
            self._deliver(run, None)

    def _abort(self, run: Run) -> None:
        self._runs.discard(run)
        if run in self._held_back:
            self._held_back.remove(run)
        if run.number >= 0 and not run.engine.context.closed:
            run.engine.abort(run.number)

    def _end_all(self, runs: Iterable[Run], error: str) -> None:
        for run in list(runs):
            self._abort(run)
            self._deliver(run, Update(-1, completion=Completion(-1, [], "", "error", error)))

    def _step(self, engine: Engine) -> None:
        stats = engine.stats
        n_tokens, n_suspended = stats.prefill_tokens + stats.decode_tokens, stats.suspensions
        try:
            updates = engine.step()
        except Exception as error:
            log.exception("an engine failed; its requests are lost")
            if engine.context.closed:
                self.failure = str(error)
                self._engines.remove(engine)
            lost = [run for run in self._runs if run.engine is engine]
            self._end_all(lost, f"the engine failed: {error}")
            return
        n_tokens = stats.prefill_tokens + stats.decode_tokens - n_tokens
        self._stepped(n_tokens, stats.suspensions - n_suspended)
        for update in updates:
            run: Run = update.tag
            if run in self._runs:
                if update.completion is not None:
                    self._runs.discard(run)
                self._deliver(run, update)

    def _note_load(self) -> None:
        self.load = Load(
            sum(engine.n_running for engine in self._engines),
            sum(engine.n_waiting for engine in self._engines) + len(self._held_back),
            max((engine.cache_use for engine in self._engines), default=0.0),
        )
