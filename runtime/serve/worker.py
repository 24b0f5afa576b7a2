"""The one thread that owns the engines: takes requests in, steps, hands back what is new."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from runtime.engine import Completion, Engine, EngineError, Request, Update

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Ticket:
    """A request on its way; what becomes of it goes to `deliver`, in the worker's thread.

    Attributes:
        deliver: gets each update; the last has a completion.
        submitted: when, by `time.perf_counter`.
    """

    engine: Engine
    request: Request
    deliver: Callable[[Ticket, Update], None]
    submitted: float = field(default_factory=time.perf_counter)


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

    All other methods may be called from any thread. The engines are nobody else's meanwhile,
    but for what does not change in them: vocabularies, options.

    Args:
        engines: not owned.
        after_step: called in the worker's thread after each round, when all its updates have
            been delivered.

    Attributes:
        load: how busy the engines were after the last round.
        failure: why no request can be served any more, or "".
    """

    def __init__(
        self, engines: Iterable[Engine], after_step: Callable[[], None] = lambda: None
    ) -> None:
        self.load = Load()
        self.failure = ""
        self._engines = list(engines)
        self._after_step = after_step
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._numbers: dict[Ticket, int] = {}
        self._tickets: dict[tuple[int, int], Ticket] = {}  # (id of the engine, number) → ticket
        self._pauses: list[_Pause] = []
        self._held_back: list[Ticket] = []
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what still runs is aborted, and its updates say so."""
        self._inbox.put(None)
        self._thread.join()

    def submit(self, ticket: Ticket) -> None:
        """Take a request in; one that cannot be served ends with an update that says why."""
        self._inbox.put(lambda: self._add(ticket))

    def abort(self, ticket: Ticket) -> None:
        """End a request that nobody waits for any more; it gets no further update."""
        self._inbox.put(lambda: self._abort(ticket))

    def when_idle(self, action: Callable[[], Any]) -> Future[Any]:
        """Have `action` done in the worker's thread while no engine has work.

        Requests that come meanwhile wait. The future has what it returns or raises.
        """
        future: Future[Any] = Future()
        self._inbox.put(lambda: self._pauses.append(_Pause(action, future)))
        return future

    # In the thread

    def _run(self) -> None:
        while True:
            idle = not any(engine.has_work for engine in self._engines)
            if idle and self._pauses:
                self._do_pauses()
                continue
            if not self._take_commands(wait=idle):
                break
            for engine in self._engines:
                if engine.has_work:
                    self._step(engine)
            self._note_load()
            self._after_step()
        for ticket in [*self._numbers, *self._held_back]:
            self._abort(ticket)
            self._end(ticket, "the server is stopping")
        for pause in self._pauses:
            pause.future.set_exception(EngineError("the server is stopping"))

    def _take_commands(self, wait: bool) -> bool:
        """Carry out what has come in; False if it is time to stop."""
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
        for ticket in held_back:
            self._add(ticket)

    def _add(self, ticket: Ticket) -> None:
        if self._pauses:
            self._held_back.append(ticket)
            return
        try:
            number = ticket.engine.add(ticket.request)
        except EngineError as error:
            self._end(ticket, str(error))
            return
        self._numbers[ticket] = number
        self._tickets[id(ticket.engine), number] = ticket

    def _abort(self, ticket: Ticket) -> None:
        if ticket in self._held_back:
            self._held_back.remove(ticket)
        number = self._numbers.pop(ticket, None)
        if number is not None:
            del self._tickets[id(ticket.engine), number]
            if not ticket.engine.context.closed:
                ticket.engine.abort(number)

    def _end(self, ticket: Ticket, error: str) -> None:
        ticket.deliver(ticket, Update(-1, completion=Completion(-1, [], "", "error", error)))

    def _step(self, engine: Engine) -> None:
        try:
            updates = engine.step()
        except Exception as error:
            log.exception("an engine failed; its requests are lost")
            if engine.context.closed:
                self.failure = str(error)
                self._engines.remove(engine)
            for ticket in [t for t in self._numbers if t.engine is engine]:
                self._abort(ticket)
                self._end(ticket, f"the engine failed: {error}")
            return
        for update in updates:
            owner = self._tickets.get((id(engine), update.index))
            if owner is None:
                continue
            if update.completion is not None:
                del self._tickets[id(engine), update.index], self._numbers[owner]
            owner.deliver(owner, update)

    def _note_load(self) -> None:
        self.load = Load(
            sum(engine.n_running for engine in self._engines),
            sum(engine.n_waiting for engine in self._engines) + len(self._held_back),
            max((engine.cache_use for engine in self._engines), default=0.0),
        )
