"""`python -m lab.training`: steps of training, ours against the usual way.

The usual way: whole prompts with their answers, padded on the right, in random order, the
logits of every token, and the model's own loss, as transformers' Trainer does it by default. The
same examples, the same adapter, forward and backward; what is compared is examples per second.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from runtime.common.command import parser_for, run
from runtime.prompts import tokenized_frame
from runtime.settings import PROJECT_DIR, Settings
from training.base import Base
from training.corpus import read_corpus
from training.examples import IGNORED, Example, collate, make_examples
from training.options import Options
from training.trainer import AnswerTrainer, ByLength

Step = Callable[[Any], torch.Tensor]


def usual_batch(head: list[int], examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Whole sequences, padded on the right."""
    longest = len(head) + max(map(len, examples))
    ids = torch.zeros(len(examples), longest, dtype=torch.int64)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        tokens = head + example.prompt + example.answer
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        answer = slice(len(tokens) - len(example.answer), len(tokens))
        labels[row, answer] = torch.tensor(example.answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def seconds(step: Step, batches: Sequence[Any], model: Any) -> float:
    """Time of forward and backward over the batches."""
    started = time.perf_counter()
    for batch in batches:
        step(batch).backward()
        model.zero_grad()
    return time.perf_counter() - started


def _measure(arguments: argparse.Namespace) -> int:
    options = Options(rank=arguments.rank, batch_size=arguments.batch_size)
    settings = Settings.load()
    base = Base.find(arguments.model, settings)
    with base.tokenizer() as tokenizer:
        frame = tokenized_frame(tokenizer, "history", settings.subjects)
        pairs = read_corpus(arguments.data, skip_bad=True)
        examples = make_examples(pairs, tokenizer, frame, options.max_tokens)
    config = LoraConfig(task_type="CAUSAL_LM", r=options.rank, target_modules="all-linear")
    model = get_peft_model(base.load(options, use_cpu=True), config)
    model.train()
    with tempfile.TemporaryDirectory() as folder:
        head = frame.head
        trainer = AnswerTrainer(model, head, examples, [], Path(folder), options, use_cpu=True)
        n, size = arguments.batches, options.batch_size
        # The same examples on both sides: a share of them all, in each side's own order.
        chosen = random.Random(0).sample(examples, n * size)
        ours = [chosen[i] for i in ByLength(chosen, size, 0)]
        batches = {
            "usual": [usual_batch(head, chosen[i : i + size]) for i in range(0, n * size, size)],
            "ours": [collate(ours[i : i + size]) for i in range(0, n * size, size)],
        }
        steps: dict[str, Step] = {
            "usual": lambda batch: model(**batch, use_cache=False).loss,
            "ours": lambda batch: trainer.compute_loss(model, batch),
        }
        ratios = []
        print("| round | usual, examples/s | ours, examples/s | ratio |")
        print("| --- | --- | --- | --- |")
        for number in range(arguments.rounds + 1):
            took = {name: seconds(steps[name], batches[name], model) for name in steps}
            if number:  # the first round only warms up
                ratios.append(took["usual"] / took["ours"])
                rates = [f"{n * size / took[name]:.2f}" for name in steps]
                print(f"| {number} | {rates[0]} | {rates[1]} | {ratios[-1]:.2f} |", flush=True)
    print(f"| median | | | **{statistics.median(ratios):.2f}** |")
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="as for training.finetune (default: demo)")
    parser.add_argument(
        "--data",
        type=Path,
        default=PROJECT_DIR / "data" / "corpora" / "history.jsonl",
        help="corpus (default: the demo's of history)",
    )
    parser.add_argument("--rank", type=int, default=8, help="of the adapter (default: 8)")
    parser.add_argument("--batch_size", type=int, default=16, help="(default: 16)")
    parser.add_argument("--batches", type=int, default=4, help="in a round (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    return run(_measure, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
