"""Calls of llama.cpp that no exception gets lost in, and that can be stopped.

Python runs signal handlers in the main thread, between any two bytecodes: also inside a function
that llama.cpp calls back. What a handler raises there (a KeyboardInterrupt, somebody's timeout)
cannot pass through C, so ctypes prints it and goes on. And while C code runs, no handler runs.

So work for the main thread is done in a helper thread, where Python runs no signal handlers,
while the main thread waits: `undisturbed`. If a handler raises, the computation is asked to stop
(llama.cpp looks at a flag between the operations of a graph), and the exception is raised in the
main thread once the work has ended or stopped. Whatever is done in one call of `undisturbed` is
thus never left half done by a signal. Other threads, which signal handlers do not reach, do their
work themselves.

Exceptions that a callback raises by itself are kept by `Callbacks` and raised after the C call.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_SECONDS = 0.05


class Stopped(BaseException):
    """A computation was stopped because the thread that waits for it was interrupted.

    Not an Exception, since no request has failed.
    """


class StopFlag:
    """A flag for llama.cpp's `abort_callback`, read without running any Python.

    The callback is called for each operation of a graph, some thousand times a call. C's strlen
    does what is needed: given two bytes, it returns 1 or, if the first is zero, 0.
    """

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(2)

    def set(self) -> None:
        self._bytes[0] = b"\x01"

    def clear(self) -> None:
        self._bytes[0] = b"\x00"

    @property
    def address(self) -> int:
        """What the callback is called with."""
        return ctypes.addressof(self._bytes)

    @staticmethod
    def callback(kind: Any) -> Any:
        """The callback, as a function pointer of ctypes type `kind`."""
        return ctypes.cast(ctypes.CDLL(None).strlen, kind)


class _Job:
    """A function for the helper thread, and what became of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.stopping = False
        self.flag: StopFlag | None = None
        self._taken = threading.Lock()
        self._running = threading.Lock()
        self._running.acquire()

    def run(self) -> None:
        """Run it; a second call does nothing."""
        if not self._taken.acquire(blocking=False):
            return
        _local.job = self
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        _local.job = None
        self.done = True
        self._running.release()

    def wait(self) -> None:
        """Until it is done. A signal handler may raise out of this, even when it is."""
        # A signal delivered to another thread does not wake this one: look from time to time.
        while not self._running.acquire(timeout=_LOOK_SECONDS):
            pass

    def outcome(self, interruption: BaseException | None = None) -> Any:
        """What the function returned. Raises what interrupted it, else what it raised."""
        # A traceback holds frames, and so what is in their variables: leave no cycle behind.
        error, self.error = interruption or self.error, None
        result, self.result = self.result, None
        try:
            if error is not None:
                raise error
            return result
        finally:
            del error, interruption, result

    def stop(self) -> None:
        """Have it stop where it can; it also may run to its end."""
        self.stopping = True
        if (flag := self.flag) is not None:
            flag.set()


_local = threading.local()
_jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
_helper: threading.Thread | None = None


def _work() -> None:
    while True:
        _jobs.get().run()


def _start_helper() -> None:
    global _helper
    # An interruption of this may leave one that was not started; two do no harm.
    if _helper is None or not _helper.is_alive():
        _helper = threading.Thread(target=_work, name="llama.cpp", daemon=True)
        _helper.start()


def _after_fork() -> None:
    global _helper, _jobs
    _helper, _jobs = None, queue.SimpleQueue()


os.register_at_fork(after_in_child=_after_fork)


def undisturbed(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that no signal handler runs within a call of it (see above).

    If the main thread is interrupted meanwhile, the call raises the signal handler's exception as
    soon as the function has ended; `stoppable` computations and `check_stop` make that soon.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if threading.current_thread() is not threading.main_thread() or sys.is_finalizing():
            return function(*args, **kwargs)
        _start_helper()
        job = _Job(functools.partial(function, *args, **kwargs))
        interruption: BaseException | None = None
        while not job.done:
            try:
                _jobs.put(job)  # again after an interruption, which may have come just before
                job.wait()
            except BaseException as error:
                interruption = interruption or error
                job.stop()
        return job.outcome(interruption)  # type: ignore[no-any-return]

    return call


def abandonable(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function that cannot be stopped, so that an interruption does not wait for it.

    It then goes on in a thread that ends with the process, and its result is lost.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if threading.current_thread() is not threading.main_thread():
            return function(*args, **kwargs)
        job = _Job(functools.partial(function, *args, **kwargs))
        threading.Thread(target=job.run, daemon=True).start()
        job.wait()
        return job.outcome()  # type: ignore[no-any-return]

    return call


def check_stop() -> None:
    """Raise Stopped if the thread that waits for this one was interrupted."""
    job: _Job | None = getattr(_local, "job", None)
    if job is not None and job.stopping:
        raise Stopped


@contextmanager
def stoppable(flag: StopFlag) -> Iterator[None]:
    """While the block runs, an interruption of the waiting thread sets the flag."""
    job: _Job | None = getattr(_local, "job", None)
    flag.clear()
    if job is None:
        yield
        return
    job.flag = flag
    try:
        if job.stopping:  # asked in between: too early to find the flag
            flag.set()
        yield
    finally:
        job.flag = None
        flag.clear()


class Callbacks:
    """Python functions that C calls; their exceptions are kept until `check`."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def wrap(self, kind: Any, function: Callable[..., Any], failed: Any = None) -> Any:
        """A callback of ctypes type `kind`, which returns `failed` where the function raises."""

        def call(*args: Any) -> Any:
            try:
                return function(*args)
            except BaseException as error:
                self._error = self._error or error  # the first one counts
                return failed

        return kind(call)

    def check(self) -> None:
        """Raise what a callback raised since the last check, if anything."""
        error, self._error = self._error, None
        if error is not None:
            raise error
