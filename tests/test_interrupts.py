"""Real signals at random moments: what their handlers raise surfaces soon and costs no answer."""

from __future__ import annotations

import ctypes
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import llama_cpp as llama
import pytest

from runtime.engine import (
    Completion,
    Engine,
    EngineError,
    EngineOptions,
    Model,
    Request,
    SamplingParams,
    calls,
)
from runtime.engine.llama import captured_log
from tests.ggufs import write_adapter

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers are needed")
SOON = 1.0  # seconds of CPU time from a signal to its exception


class AlarmError(Exception):
    """What the signal handler of these tests raises."""


class Clock:
    """Raises AlarmError in the main thread after some seconds, while it waits for the engine.

    Seconds are CPU time of this process, so that other processes change nothing.
    """

    def __init__(self) -> None:
        self.raised_at = 0.0

    def handle(self, _: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_filename != calls.__file__:
            frame = frame.f_back
        if frame is None:  # in the test itself, which would lose what it was just given
            signal.setitimer(signal.ITIMER_PROF, 0.001)
            return
        self.raised_at = time.process_time()
        raise AlarmError

    def set(self, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-6))

    def off(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    before = signal.signal(signal.SIGPROF, clock.handle)
    yield clock
    clock.off()
    signal.signal(signal.SIGPROF, before)


@pytest.fixture(scope="module")
def mixing(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose calls mix two adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    adapters = {
        name: write_adapter(folder / f"{name}.gguf", scale=scale)
        for name, scale in [("weak", 0.5), ("strong", 4.0)]
    }
    with Engine.load(demo_model, EngineOptions(slots=4, cells_per_slot=256), adapters) as engine:
        assert engine.model.stack is not None
        yield engine


def requests(engine: Engine) -> list[Request]:
    params = SamplingParams(min_new_tokens=8, max_new_tokens=8)
    return [
        Request(engine.model.tokenize(f"Count to {n}, and then back again:"), params, 0, adapter)
        for n, adapter in enumerate([None, "weak", "strong"] * 3)
    ]


def sorted_by_index(completions: list[Completion]) -> list[Completion]:
    return sorted(completions, key=lambda completion: completion.index)


def test_an_interrupted_list_leaves_the_engine_as_it_was(mixing: Engine, clock: Clock) -> None:
    asked = requests(mixing)
    list(mixing.generate(asked))
    started = time.process_time()
    expected = sorted_by_index(list(mixing.generate(asked)))
    seconds = time.process_time() - started
    random_, interrupted = random.Random(1), 0
    for _ in range(15):
        clock.set(random_.uniform(0, seconds))
        try:
            found = list(mixing.generate(asked))
        except AlarmError:
            assert time.process_time() - clock.raised_at < SOON
            interrupted += 1
        else:
            assert sorted_by_index(found) == expected
        clock.off()
        assert not mixing.has_work
        assert len(mixing._slots.scheduler.free_slots()) == mixing.layout.sequences
    assert interrupted > 5
    assert sorted_by_index(list(mixing.generate(asked))) == expected


def test_no_interrupt_costs_a_request_its_answer(mixing: Engine, clock: Clock) -> None:
    """Every few milliseconds one, and the loop that steps goes on after each."""
    asked = requests(mixing)
    expected = [c.tokens for c in sorted_by_index(list(mixing.generate(asked)))]
    random_, interrupted = random.Random(2), 0
    ended: list[Completion] = []
    numbers = [mixing.add(request) for request in asked]
    while mixing.has_work:
        # Longer from time to time than a step takes: else none would ever end.
        clock.set(random_.choice([0.003, 0.02, 0.1, 1.0]))
        try:
            updates = mixing.step()
        except AlarmError:
            interrupted += 1
            continue
        ended += [update.completion for update in updates if update.completion]
    clock.off()
    assert interrupted > 5
    assert sorted(c.index for c in ended) == numbers
    assert [c.finish_reason for c in ended] == ["length"] * len(asked)
    assert [c.tokens for c in sorted_by_index(ended)] == expected


def test_loading_stops_soon(demo_model: Path, clock: Clock, tmp_path: Path) -> None:
    adapters = {name: write_adapter(tmp_path / f"{name}.gguf") for name in "ab"}
    options = EngineOptions(slots=2, cells_per_slot=256)
    started = time.process_time()
    Engine.load(demo_model, options, adapters).close()
    seconds = time.process_time() - started
    random_, interrupted = random.Random(3), 0
    for _ in range(10):
        clock.set(random_.uniform(0, seconds))
        try:
            Engine.load(demo_model, options, adapters).close()
        except AlarmError:
            assert time.process_time() - clock.raised_at < SOON
            interrupted += 1
        clock.off()
    assert interrupted > 3


def test_a_long_computation_is_stopped_in_the_middle(
    engine: Engine, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """One call of 512 tokens takes longer than stopping may."""
    prompt = Request([500 + n % 90 for n in range(490)], SamplingParams(max_new_tokens=1))
    (whole,) = engine.generate([prompt])
    started = time.process_time()
    engine.stats.reset()
    (again,) = engine.generate([prompt])
    seconds = time.process_time() - started
    assert again.tokens == whole.tokens
    clock.set(seconds / 4)
    with pytest.raises(AlarmError):
        list(engine.generate([prompt]))
    assert time.process_time() - clock.raised_at < seconds / 2
    assert capfd.readouterr().err == ""  # llama.cpp's remarks are for developers
    (again,) = engine.generate([prompt])
    assert again.tokens == whole.tokens


def test_what_a_progress_callback_raises_stops_loading(demo_model: Path) -> None:
    shares: list[float] = []

    def progress(share: float) -> None:
        shares.append(share)
        if share > 0.2:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        Model(demo_model, progress=progress)
    assert shares[-1] < 0.9


def test_other_threads_do_their_work_themselves(engine: Engine) -> None:
    """Signal handlers do not reach them."""
    seen: list[str] = []

    @calls.undisturbed
    def where() -> None:
        seen.append(threading.current_thread().name)

    where()
    thread = threading.Thread(target=where, name="another")
    thread.start()
    thread.join()
    assert seen == ["llama.cpp", "another"]


def test_what_work_raises_is_raised_and_nothing_is_kept_of_it() -> None:
    class Big:
        pass

    @calls.undisturbed
    def fail(_: Big) -> None:
        raise EngineError("no")

    import gc
    import weakref

    big = Big()
    gone = weakref.ref(big)
    gc.disable()
    try:
        with pytest.raises(EngineError, match="no") as raised:
            fail(big)
        del big, raised
        deadline = time.monotonic() + 30  # the helper thread lets go of it a moment later
        while gone() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gone() is None
    finally:
        gc.enable()


def test_what_cannot_be_stopped_is_left_alone_and_holds_up_nothing(
    demo_model: Path, clock: Clock
) -> None:
    """As quantizing a model, which takes minutes in one call of llama.cpp."""
    goes_on, ended = threading.Event(), threading.Event()

    @calls.abandonable
    def long() -> None:
        with captured_log():
            while not goes_on.is_set():  # taking CPU time, which is what the clock goes by
                pass
        ended.set()

    clock.set(0.05)
    with pytest.raises(AlarmError):
        long()
    assert time.process_time() - clock.raised_at < SOON
    Model(demo_model).close()
    goes_on.set()
    assert ended.wait(60)


def test_captures_of_the_log_do_not_take_from_one_another() -> None:
    before = log_callback()
    with captured_log() as outer:
        with captured_log() as inner:
            collect(3, b"both")
        collect(3, b"one")
    assert (outer, inner) == (["both", "one"], ["both"])
    assert log_callback() == before


def collect(level: int, text: bytes) -> None:
    """What llama.cpp does with its log."""
    callback = llama.llama_log_callback()
    llama.llama_log_get(ctypes.byref(callback), ctypes.byref(ctypes.c_void_p()))
    callback(level, text, None)


def log_callback() -> int | None:
    callback = llama.llama_log_callback()
    llama.llama_log_get(ctypes.byref(callback), ctypes.byref(ctypes.c_void_p()))
    return ctypes.cast(callback, ctypes.c_void_p).value
