"""Measures speed and memory on a GPU, for `python -m benchmarks.gpu`."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import table
from benchmarks.shapes import make_adapters
from runtime.common.atomic import replacing
from runtime.engine import Engine, EngineOptions, Model, Request, SamplingParams
from runtime.engine.cards import find_cards
from runtime.engine.library import describe_build
from runtime.engine.speeds import SingleCalls

PORT = 18080
PROMPT_TOKENS, NEW_TOKENS = 60, 128


def make_prompts(count: int) -> list[list[int]]:
    """Random prompts of about `PROMPT_TOKENS` tokens, a quarter more or less."""
    random = np.random.default_rng(0)
    lengths = random.integers(3 * PROMPT_TOKENS // 4, 5 * PROMPT_TOKENS // 4 + 1, count)
    return [random.integers(1000, 30_000, n).tolist() for n in lengths]


def free_bytes() -> int:
    """Free memory of all cards together."""
    return sum(card.free for card in find_cards())


def requests_for(
    prompts: Sequence[Sequence[int]], adapters: Sequence[str], new_tokens: int = NEW_TOKENS
) -> list[Request]:
    """Greedy requests for exactly `new_tokens` tokens; the adapters take turns."""
    params = SamplingParams(max_new_tokens=new_tokens, ignore_end=True)
    return [
        Request(prompt, params, n, adapters[n % len(adapters)] if adapters else None)
        for n, prompt in enumerate(prompts)
    ]


def generation_speed(engine: Engine, requests: Sequence[Request]) -> float:
    """New tokens per second while all requests are running."""
    for request in requests:
        engine.add(request)
    seen: set[int] = set()
    while len(seen) < len(requests):
        seen.update(update.index for update in engine.step())
    started, tokens = time.perf_counter(), engine.stats.new_tokens
    ended = False
    while not ended:
        ended = any(update.completion for update in engine.step())
    speed = (engine.stats.new_tokens - tokens) / (time.perf_counter() - started)
    while engine.has_work:
        engine.step()
    return speed


def load_engine(
    model: Path,
    slots: int,
    prompts: Sequence[Sequence[int]],
    adapters: Mapping[str, Path] | None = None,
) -> Engine:
    """This engine, with all layers on the GPU if there is one."""
    cells = max(map(len, prompts)) + NEW_TOKENS + 32
    options = EngineOptions(slots, cells, threads=4, call_tokens=512)
    layers, card = (-1, 0) if find_cards() else (0, None)
    return Engine.load(model, options, adapters, gpu_layers=layers, main_gpu=card)


def ours(
    model: Path, slots: int, prompts: Sequence[Sequence[int]], adapters: int
) -> dict[str, float]:
    """This engine with as many random adapters."""
    paths = {
        p.stem: p for p in make_adapters(model, model.parent, [f"r{n}" for n in range(adapters)])
    }
    before = free_bytes()
    started = time.perf_counter()
    with load_engine(model, slots, prompts, paths) as engine:
        figures = {"load_seconds": time.perf_counter() - started}
        list(engine.generate(requests_for(prompts[:slots], list(paths), 8)))  # to warm up
        speed = generation_speed(engine, requests_for(prompts[:slots], list(paths)[:1]))
        figures["generation_tokens_per_second"] = speed
        engine.stats.reset()
        started = time.perf_counter()
        done = list(engine.generate(requests_for(prompts, list(paths))))
        seconds = time.perf_counter() - started
        if any(completion.finish_reason == "error" for completion in done):
            raise RuntimeError(next(c.error for c in done if c.error))
        figures["seconds"] = seconds
        figures["tokens_per_second"] = sum(len(c.tokens) for c in done) / seconds
        figures["gpu_bytes"] = before - free_bytes()
        figures["stats"] = str(engine.stats)  # type: ignore[assignment]
    return figures


def merged(
    model: Path, slots: int, prompts: Sequence[Sequence[int]], files: int
) -> dict[str, float]:
    """Merged files as the pipeline serves them: one engine per file, one after another."""
    before = free_bytes()
    with ExitStack() as stack:
        engines = [stack.enter_context(load_engine(model, slots, prompts)) for _ in range(files)]
        for engine in engines:
            list(engine.generate(requests_for(prompts[:slots], [], 8)))
        started = time.perf_counter()
        tokens = sum(
            len(completion.tokens)
            for n, engine in enumerate(engines)
            for completion in engine.generate(requests_for(prompts[n::files], []))
        )
        seconds = time.perf_counter() - started
        taken = before - free_bytes()
    return {"seconds": seconds, "tokens_per_second": tokens / seconds, "gpu_bytes": taken}


def bare(model: Path, slots: int) -> dict[str, float]:
    """Bare calls of `llama_decode` with one token per slot, copying all logits."""
    depth = PROMPT_TOKENS + NEW_TOKENS // 2
    on_card = bool(find_cards())
    loaded = Model(model, -1 if on_card else 0, 0 if on_card else None)
    try:
        with SingleCalls(loaded, slots, depth + 64, threads=4) as calls:
            return {"generation_tokens_per_second": calls.decode(slots, depth, repeats=100)}
    finally:
        loaded.close()


def batched_bench(program: Path, model: Path, slots: int, unified: bool) -> dict[str, float]:
    """The figures that `llama-batched-bench` prints."""
    cells = -(-(PROMPT_TOKENS + NEW_TOKENS) // 256) * 256
    command = [
        *(str(program), "-m", str(model), "-ngl", "99", "-fa", "on", "--output-format", "jsonl"),
        *("-npp", str(PROMPT_TOKENS), "-ntg", str(NEW_TOKENS), "-npl", str(slots)),
        *("-c", str(slots * cells), "-b", "2048", "-ub", "2048"),
        *(["-kvu"] if unified else []),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        if line.startswith("{"):
            return dict(json.loads(line))
    raise RuntimeError(f"{program}: {result.stderr[-500:]}")


@contextmanager
def server(program: Path, model: Path, slots: int, cells: int) -> Iterator[str]:
    """Run `llama-server`; yields its address."""
    command = [
        *(str(program), "-m", str(model), "-ngl", "99", "-fa", "on", "-np", str(slots)),
        *("-c", str(slots * -(-cells // 256) * 256), "--port", str(PORT), "--no-webui"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"{program} ended with status {process.returncode}")
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def llama_server(
    program: Path, model: Path, slots: int, prompts: Sequence[Sequence[int]]
) -> dict[str, float]:
    """Send all prompts at once to a `llama-server` with `slots` slots."""
    cells = max(map(len, prompts)) + NEW_TOKENS + 16
    with server(program, model, slots, cells) as address:

        def ask(prompt: Sequence[int]) -> int:
            body = {"prompt": list(prompt), "n_predict": NEW_TOKENS, "temperature": 0.0}
            data = json.dumps({**body, "ignore_eos": True, "cache_prompt": False}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{address}/completion", data, headers)
            with urllib.request.urlopen(request, timeout=600) as response:
                return int(json.load(response)["tokens_predicted"])

        ask(prompts[0])
        started = time.perf_counter()
        with ThreadPoolExecutor(2 * slots) as pool:
            tokens = sum(pool.map(ask, prompts))
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "tokens_per_second": tokens / seconds}


def report(results: Sequence[dict[str, Any]]) -> str:
    """All figures as a Markdown table."""
    rows = []
    for each in results:
        generating = each.get("generation_tokens_per_second", each.get("speed_tg"))
        whole = each.get("tokens_per_second", each.get("speed"))
        cells = [f"{v:,.0f}" if v else "" for v in (generating, whole)]
        seconds, taken = each.get("seconds"), each.get("gpu_bytes")
        cells += [f"{seconds:.1f}" if seconds else "", f"{taken / 2**30:.1f}" if taken else ""]
        rows.append([each["slots"], each["what"], *cells])
    return table(
        "slots | what | tokens/s, generating | tokens/s, all | seconds | GPU memory, GiB", rows
    )


def measure(arguments: argparse.Namespace) -> None:
    """Measure as the command line asks; writes files to --out and prints a table."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    print("llama.cpp:", describe_build())
    for card in find_cards():
        print(f"{card.name}: {card.description}, {card.total / 2**30:.0f} GiB")

    def note(what: str, slots: int, figures: dict[str, Any]) -> None:
        results.append({"what": what, "slots": slots, **figures})
        with replacing(arguments.out / "gpu.json") as partial:
            partial.write_text(json.dumps(results, indent=1))
        print(what, slots, {k: v for k, v in figures.items() if k != "stats"}, flush=True)
        if "stats" in figures:
            print("   ", figures["stats"], flush=True)

    model, files = arguments.model, arguments.adapters
    for slots in arguments.slots:
        count = min(arguments.count, 12 * slots)
        prompts = make_prompts(max(count, slots))
        for label in arguments.what:
            if label == "bare":
                note("llama_decode alone", slots, bare(model, slots))
            elif label == "bench" and arguments.batched_bench:
                for unified in (False, True):
                    bench = batched_bench(arguments.batched_bench, model, slots, unified)
                    note(f"llama-batched-bench{', unified' if unified else ''}", slots, bench)
            elif label == "server" and arguments.llama_server:
                figures = llama_server(arguments.llama_server, model, slots, prompts)
                note("llama-server", slots, figures)
            elif label == "ours":
                note("this engine", slots, ours(model, slots, prompts, 0))
            elif label == "adapters":
                figures = ours(model, slots, prompts, files)
                note(f"this engine, {files} adapters", slots, figures)
            elif label == "merged":
                note(
                    f"this engine, {files} merged files",
                    slots,
                    merged(model, slots, prompts, files),
                )
    print(report(results))
    (arguments.out / "gpu.md").write_text(report(results) + "\n")
