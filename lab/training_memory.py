"""`python -m lab.training_memory`: GPU memory and speed of training steps.

Measures the rows of docs/training.md. Each row loads the base anew, adapts it and trains on
batches of questions of equal length. Peak memory is what torch's allocator had allocated and
reserved at most; CUDA itself takes about 1 GB more.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from runtime.common.command import parser_for, run
from runtime.prompts import tokenized_frame
from runtime.settings import PROJECT_DIR, Settings
from training.base import Base, in_four_bits
from training.corpus import read_corpus
from training.errors import TrainingError
from training.examples import Example, collate, make_examples
from training.options import Options
from training.trainer import AnswerTrainer

ROWS: list[dict[str, Any]] = [
    {"four_bit": "off"},
    {"batch_size": 8, "four_bit": "off"},
    {"batch_size": 16, "four_bit": "on"},
    {"batch_size": 4, "four_bit": "on"},
    {"batch_size": 8, "four_bit": "on", "gradient_checkpointing": True},
]


def lengthened(example: Example, tokens: int) -> Example:
    """The example with its question repeated or cut, so that it has `tokens` tokens in all."""
    room = max(1, tokens - len(example.answer))
    prompt = (example.prompt * (room // len(example.prompt) + 1))[:room]
    return Example(prompt, example.answer)


def row(base: Base, options: Options, examples: list[Example], head: list[int]) -> str:
    """Train one step to warm up and three more; returns a row of the table, without options."""
    use_cpu = not torch.cuda.is_available()
    model = base.load(options, use_cpu)
    config = LoraConfig(task_type="CAUSAL_LM", r=options.rank, target_modules="all-linear")
    model = get_peft_model(model, config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = AnswerTrainer(model, head, examples, [], Path(folder), options, use_cpu)
        model.to(trainer.args.device)
        optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
        model.train()
        batch = {
            name: value.to(trainer.args.device) if isinstance(value, torch.Tensor) else value
            for name, value in collate(examples).items()
        }
        steps = 3
        for step in range(steps + 1):
            if step == 1:
                started = _now()
            with trainer.autocast_smart_context_manager():
                loss = trainer.compute_loss(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds = (_now() - started) / steps
    tokens = sum(len(example.prompt) + len(example.answer) for example in examples)
    cells = [f"{tokens / seconds:,.0f}"]
    for read in (torch.cuda.max_memory_allocated, torch.cuda.max_memory_reserved):
        cells.append("–" if use_cpu else f"{read() / 1e9:.1f}")
    return " | ".join(cells)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _measure(arguments: argparse.Namespace) -> int:
    settings = Settings.load()
    base = Base.find(arguments.model, settings)
    with base.tokenizer() as tokenizer:
        frame = tokenized_frame(tokenizer, "history", settings.subjects)
        pairs = read_corpus(arguments.data, skip_bad=True)
        found = make_examples(pairs, tokenizer, frame, Options().max_tokens)
    print("| options | tokens/s | GB allocated | GB reserved |")
    print("| --- | --- | --- | --- |")
    for given in ROWS:
        options = Options(**given)
        name = " ".join(f"--{key} {value}" for key, value in given.items())
        try:
            in_four_bits(options, not torch.cuda.is_available(), base.path.is_file())
        except TrainingError as error:
            print(f"| {name} | {error} | | |", flush=True)
            continue
        examples = [
            lengthened(example, arguments.tokens) for example in found[: options.batch_size]
        ]
        print(f"| {name} | {row(base, options, examples, frame.head)} |", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--model", default="demo", help="as for training.finetune (default: demo)")
    add("--tokens", type=int, default=80, help="of each question and answer (default: 80)")
    corpus = PROJECT_DIR / "data" / "corpora" / "history.jsonl"
    add("--data", type=Path, default=corpus, help="corpus (default: the demo's of history)")
    return run(_measure, parser.parse_args(argv), "stopped")


if __name__ == "__main__":
    sys.exit(main())
