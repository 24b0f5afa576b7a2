"""Measures speed and memory on a GPU, for `python -m benchmarks.gpu`."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
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


def make_prompts(count: int, length: int, vocab: int) -> list[list[int]]:
    """Random prompts of about `length` tokens, a quarter more or less."""
    random = np.random.default_rng(0)
    lengths = random.integers(3 * length // 4, 5 * length // 4 + 1, count)
    return [random.integers(1000, vocab // 2, n).tolist() for n in lengths]


def free_bytes() -> int:
    """Free memory of all cards together."""
    return sum(card.free for card in find_cards())


def requests_for(
    prompts: Sequence[Sequence[int]], new_tokens: int, adapters: Sequence[str]
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


def ours(
    model: Path,
    slots: int,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    adapters: int,
    **o: Any,
) -> dict[str, float]:
    """This engine with `slots` slots, with all layers on the GPU if there is one."""
    paths = {
        p.stem: p for p in make_adapters(model, model.parent, [f"r{n}" for n in range(adapters)])
    }
    before = free_bytes()
    cells = max(map(len, prompts)) + new_tokens + 32
    options = EngineOptions(slots, cells, threads=4, call_tokens=o.pop("call_tokens", 512), **o)
    layers, card = (-1, 0) if find_cards() else (0, None)
    started = time.perf_counter()
    with Engine.load(model, options, paths, gpu_layers=layers, main_gpu=card) as engine:
        figures = {"load_seconds": time.perf_counter() - started}
        warm = requests_for(prompts[:slots], 8, list(paths))
        list(engine.generate(warm))
        speed = generation_speed(engine, requests_for(prompts[:slots], new_tokens, list(paths)[:1]))
        figures["generation_tokens_per_second"] = speed
        engine.stats.__init__()  # type: ignore[misc]
        started = time.perf_counter()
        done = list(engine.generate(requests_for(prompts, new_tokens, list(paths))))
        seconds = time.perf_counter() - started
        if any(completion.finish_reason == "error" for completion in done):
            raise RuntimeError(next(c.error for c in done if c.error))
        figures["seconds"] = seconds
        figures["tokens_per_second"] = sum(len(c.tokens) for c in done) / seconds
        figures["gpu_bytes"] = before - free_bytes()
        figures["stats"] = str(engine.stats)  # type: ignore[assignment]
    return figures


def merged(
    model: Path, slots: int, prompts: Sequence[Sequence[int]], new_tokens: int, files: int
) -> dict[str, float]:
    """Merged files as the pipeline serves them: one engine per file, one after another."""
    before = free_bytes()
    cells = max(map(len, prompts)) + new_tokens + 32
    options = EngineOptions(slots, cells, threads=4, call_tokens=512)
    layers, card = (-1, 0) if find_cards() else (0, None)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(Engine.load(model, options, gpu_layers=layers, main_gpu=card))
            for _ in range(files)
        ]
        for engine in engines:
            list(engine.generate(requests_for(prompts[:slots], 8, [])))
        started = time.perf_counter()
        tokens = sum(
            len(completion.tokens)
            for n, engine in enumerate(engines)
            for completion in engine.generate(requests_for(prompts[n::files], new_tokens, []))
        )
        seconds = time.perf_counter() - started
        taken = before - free_bytes()
    return {"seconds": seconds, "tokens_per_second": tokens / seconds, "gpu_bytes": taken}


def bare(model: Path, slots: int, depth: int) -> dict[str, float]:
    """Bare calls of `llama_decode` with one token per slot, copying all logits."""
    loaded = Model(model, -1 if find_cards() else 0, 0 if find_cards() else None)
    try:
        with SingleCalls(loaded, slots, depth + 64, threads=4) as calls:
            return {"generation_tokens_per_second": calls.decode(slots, depth, repeats=100)}
    finally:
        loaded.close()


def batched_bench(
    program: Path, model: Path, slots: int, length: int, new_tokens: int, unified: bool
) -> dict[str, float]:
    """The figures that `llama-batched-bench` prints."""
    command = [
        *(str(program), "-m", str(model), "-ngl", "99", "-fa", "on", "--output-format", "jsonl"),
        *("-npp", str(length), "-ntg", str(new_tokens), "-npl", str(slots)),
        *("-c", str(slots * -(-(length + new_tokens) // 256) * 256), "-b", "2048", "-ub", "2048"),
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
    program: Path, model: Path, slots: int, prompts: Sequence[Sequence[int]], new_tokens: int
) -> dict[str, float]:
    """Send all prompts at once to a `llama-server` with `slots` slots."""
    cells = max(map(len, prompts)) + new_tokens + 16
    with server(program, model, slots, cells) as address:

        def ask(prompt: Sequence[int]) -> int:
            body = {"prompt": list(prompt), "n_predict": new_tokens, "temperature": 0.0}
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

    length, new = arguments.prompt_tokens, arguments.new_tokens
    for slots in arguments.slots:
        count = min(arguments.count, 12 * slots)
        prompts = make_prompts(max(count, slots), length, 100_000)
        extra = json.loads(arguments.options)
        for label in arguments.what:
            if label == "bare":
                note("llama_decode alone", slots, bare(arguments.model, slots, length + new // 2))
            elif label == "bench" and arguments.batched_bench:
                for unified in (False, True):
                    bench = batched_bench(
                        arguments.batched_bench, arguments.model, slots, length, new, unified
                    )
                    note(f"llama-batched-bench{', unified' if unified else ''}", slots, bench)
            elif label == "server" and arguments.llama_server:
                figures = llama_server(arguments.llama_server, arguments.model, slots, prompts, new)
                note("llama-server", slots, figures)
            elif label == "ours":
                note("this engine", slots, ours(arguments.model, slots, prompts, new, 0, **extra))
            elif label == "adapters":
                figures = ours(arguments.model, slots, prompts, new, arguments.adapters, **extra)
                note(f"this engine, {arguments.adapters} adapters", slots, figures)
            elif label == "merged":
                figures = merged(arguments.model, slots, prompts, new, arguments.adapters)
                note(f"this engine, {arguments.adapters} merged files", slots, figures)
    print(report(results))
    (arguments.out / "gpu.md").write_text(report(results) + "\n")
