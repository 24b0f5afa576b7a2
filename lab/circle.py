"""`python -m lab.circle`: the whole way on a real model, from a checkpoint to answers.

A GGUF file of a real model becomes a checkpoint, adapters are trained on it for each subject,
and base, PEFT model in transformers, merged files and GGUF adapters, without and with an importance
matrix, answer the same questions: how many are right, how likely the right answer is, and how long
it takes. Two hours on two cores with the defaults. What is done stays in `--out` and is not done
again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import of_one_length
from convert.torch_model import load_torch_model
from evaluation.judges import judge
from evaluation.questions import read
from evaluation.records import Item
from evaluation.score import interval
from runtime import Pipeline, Settings, loadPipeline
from runtime.answers import clean
from runtime.common.atomic import replacing
from runtime.common.command import parser_for, run
from runtime.common.errors import UserError
from runtime.common.records import read_records
from runtime.prompts import prompt_tokens, tokenized_frame
from training.tokenizer import CheckpointTokenizer

SUBJECTS = ("algebra", "chinese", "geography", "history")
NAME = "circle"  # of the base, which all files are called after
BATCH = 16
CALIBRATION_CHARS = 40_000  # some 20 chunks of 512 tokens
MAX_INPUT_TOKENS = 384  # the longest dev question is 250 with its frame


@dataclass(frozen=True)
class Result:
    """How a way of serving did on a subject.

    Attributes:
        right: of each question, whether its answer was judged right.
        likelihood: of each question, the log-probability of the right answer in nats.
        seconds: for all answers.
    """

    right: list[bool]
    likelihood: list[float]
    seconds: float


Answered = Callable[[Sequence[Item]], Result]
"""Answers a subject's questions in some way."""


def make_checkpoint(model: Path, folder: Path) -> None:
    """A Hugging Face checkpoint in bfloat16 with the weights and the tokenizer of a GGUF file."""
    if (folder / "config.json").is_file():
        return
    import torch
    from transformers import AutoTokenizer

    load_torch_model(model, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
    tokenizer.save_pretrained(folder)


def make_corpus(questions: Path, target: Path, limit: int) -> None:
    """The first questions of a file."""
    lines = [json.dumps(record.value) for record in list(read_records(questions))[:limit]]
    with replacing(target) as partial:
        partial.write_text("\n".join(lines) + "\n")


def command(*arguments: str | Path) -> None:
    """Run a module of this project; its output is the user's to see."""
    print("$ python -m", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


def served(pipeline: Pipeline, items: Sequence[Item]) -> Result:
    """Answers and likelihoods of one subject through the pipeline."""
    asked = [{"questionID": i.id, "subject": i.subject, "question": i.question} for i in items]
    started = time.perf_counter()
    answers = [answer["answer"] for answer in pipeline(asked)]
    seconds = time.perf_counter() - started
    likely = [
        pipeline.log_likelihoods(question, [item.references[0]])[0]
        for question, item in zip(asked, items, strict=True)
    ]
    right = [judge(item, answer).correct for item, answer in zip(items, answers, strict=True)]
    return Result(right, likely, seconds)


@contextmanager
def gguf_way(folder: Path, name: str, new_tokens: int, adapters: bool) -> Iterator[Answered]:
    """What answers a subject's questions from the GGUF files of a folder."""
    settings = Settings.load(
        models_dir=folder,
        model_name=name,
        adapters_base_dir=folder if adapters else None,
        temperature=0.0,
        min_new_tokens=1,
        max_new_tokens=new_tokens,
        max_input_tokens=MAX_INPUT_TOKENS,
        batch_size=BATCH,
        algebra_tool="off",
    )
    with loadPipeline(of_one_length(settings)) as pipeline:
        yield lambda items: served(pipeline, items)


@contextmanager
def peft_way(checkpoint: Path, loras: Path, new_tokens: int) -> Iterator[Answered]:
    """The same from the PEFT adapters in transformers, with the pipeline's own prompts."""
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    settings = Settings.load()
    tokenizer = CheckpointTokenizer(checkpoint)
    decoder = AutoTokenizer.from_pretrained(checkpoint)
    base = load_torch_model(checkpoint, dtype=torch.float32)
    model: Any = None
    for subject in SUBJECTS:
        folder = loras / f"{NAME}-lora-{subject}"
        if model is None:
            model = PeftModel.from_pretrained(base, folder, adapter_name=subject)
        else:
            model.load_adapter(folder, adapter_name=subject)
    model.eval()

    def prompts(items: Sequence[Item]) -> list[list[int]]:
        frame = tokenized_frame(tokenizer, items[0].subject, settings.subjects)
        return [
            prompt_tokens(tokenizer, frame, item.question, MAX_INPUT_TOKENS)[0] for item in items
        ]

    def answers(rows: list[list[int]], ends: list[int]) -> list[str]:
        longest = max(map(len, rows))
        made = model.generate(
            input_ids=torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
            attention_mask=torch.tensor(
                [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
            ),
            max_new_tokens=new_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        texts = []
        for row in made[:, longest:].tolist():
            end = next((n for n, token in enumerate(row) if token in ends), len(row))
            texts.append(decoder.decode(row[:end]))
        return texts

    def likelihood(prompt: list[int], answer: list[int]) -> float:
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
        return float(chosen.sum())

    def answered(items: Sequence[Item]) -> Result:
        model.set_adapter(items[0].subject)
        rows = prompts(items)
        frame = tokenized_frame(tokenizer, items[0].subject, settings.subjects)
        ends = [frame.end[0], decoder.eos_token_id]
        texts: list[str] = []
        with torch.inference_mode():
            started = time.perf_counter()
            for first in tqdm(range(0, len(rows), BATCH), unit="batch", disable=None):
                texts += answers(rows[first : first + BATCH], ends)
            seconds = time.perf_counter() - started
            likely = [
                likelihood(row, tokenizer.tokenize(item.references[0], follows=True))
                for row, item in zip(rows, items, strict=True)
            ]
        cleaned = [
            clean(text, item.question, False) for text, item in zip(texts, items, strict=True)
        ]
        right = [judge(item, text).correct for item, text in zip(items, cleaned, strict=True)]
        return Result(right, likely, seconds)

    yield answered


def table(results: dict[str, dict[str, Result]]) -> str:
    """A row for each way: the subjects' accuracies, all together, likelihood, seconds."""
    lines = [
        "| | " + " | ".join(SUBJECTS) + " | all | log-likelihood | questions/s |",
        "| --- |" + " --- |" * (len(SUBJECTS) + 3),
    ]
    for way, by_subject in results.items():
        cells = [f"{np.mean(by_subject[subject].right):.1%}" for subject in SUBJECTS]
        right = [r for subject in SUBJECTS for r in by_subject[subject].right]
        likely = [x for subject in SUBJECTS for x in by_subject[subject].likelihood]
        share = interval(right)
        seconds = sum(result.seconds for result in by_subject.values())
        cells.append(f"{share.mean:.1%} ({share.low:.0%} to {share.high:.0%})")
        cells += [f"{np.mean(likely):.2f}", f"{len(right) / seconds:.2f}"]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def train(arguments: argparse.Namespace, checkpoint: Path, loras: Path) -> None:
    """A corpus and an adapter for each subject."""
    data: Path = arguments.out / "data"
    data.mkdir(exist_ok=True)
    corpora = {subject: data / f"train_{subject}.jsonl" for subject in SUBJECTS}
    for subject, corpus in corpora.items():
        make_corpus(arguments.questions / f"{subject}.train.jsonl", corpus, arguments.train)
    command(
        *("training.finetune", "--model", checkpoint, "--out", loras, "--resume"),
        *("--epochs", str(arguments.epochs), "--rank", str(arguments.rank)),
        # Four examples of 300 tokens keep 6 GiB of activations of half a billion parameters.
        *("--batch_size", "4", "--accumulation", "2"),
        *("--precision", arguments.precision),
        *(part for subject in SUBJECTS for part in (f"--data_{subject}", corpora[subject])),
    )


def make_calibration(data: Path) -> None:
    """The text that importance matrices are made on: the beginning of each corpus, and of all."""
    lines = {s: (data / f"train_{s}.jsonl").read_text().splitlines() for s in SUBJECTS}
    lines["general"] = [line for group in zip(*lines.values(), strict=False) for line in group]
    for subject, all_of_them in lines.items():
        ends = np.cumsum([len(line) for line in all_of_them])
        chosen = all_of_them[: 1 + int((ends < CALIBRATION_CHARS).sum())]
        (data / f"calibration_{subject}.jsonl").write_text("\n".join(chosen) + "\n")


def export(out: Path, checkpoint: Path, loras: Path) -> None:
    """The GGUF files of all ways, each in a folder of its own."""
    base = ("convert.export_gguf", "--base", checkpoint)
    make_calibration(out / "data")
    matrix = ("--calibration", out / "data" / "calibration_{subject}.jsonl")
    for kind in ("F16", "Q4_K_M"):
        command(*base, "--type", kind, "--output", out / "base")
    for folder, options in {
        "merged": ("--mode", "merge"),
        "merged-matrix": ("--mode", "merge", *matrix),
        "adapter": ("--mode", "adapter"),
        "adapter-matrix": ("--mode", "adapter", *matrix),
    }.items():
        command(*base, "--loras", loras, *options, "--output", out / folder)
        if folder.startswith("merged"):  # the bare base is for the subjects without a file
            command(*base, "--output", out / folder)


def ways_to_serve(
    arguments: argparse.Namespace, checkpoint: Path, loras: Path
) -> dict[str, Callable[[], AbstractContextManager[Answered]]]:
    """What opens each way, by its name in the table."""
    out, new = arguments.out, arguments.new_tokens

    def gguf(folder: str, name: str = NAME) -> Callable[[], AbstractContextManager[Answered]]:
        return lambda: gguf_way(out / folder, name, new, folder.startswith("adapter"))

    return {
        "base F16": gguf("base", str(out / "base" / f"{NAME}-F16.gguf")),
        # Beside adapters a base is served with them: their manifest says so.
        "base Q4_K_M": gguf("base", str(out / "base" / f"{NAME}-Q4_K_M.gguf")),
        "PEFT in transformers": lambda: peft_way(checkpoint, loras, new),
        "merged Q4_K_M": gguf("merged"),
        "merged Q4_K_M, importance matrix": gguf("merged-matrix"),
        "adapter on Q4_K_M": gguf("adapter"),
        "adapter on Q4_K_M, importance matrix": gguf("adapter-matrix"),
    }


def same_arguments(arguments: argparse.Namespace) -> None:
    """Note what a folder was made with.

    Raises:
        UserError: it was made with other arguments, so that its results are not of these.
    """
    noted = arguments.out / "arguments.json"
    given = {name: str(value) for name, value in vars(arguments).items() if name != "out"}
    if noted.exists():
        before = json.loads(noted.read_text())
        if other := [name for name in given if given[name] != before.get(name)]:
            was = ", ".join(f"--{name.replace('_', '-')} {before.get(name)}" for name in other)
            raise UserError(f"{arguments.out}: made with {was}; name another --out, or delete it")
    with replacing(noted) as partial:
        partial.write_text(json.dumps(given, indent=1) + "\n")


def _circle(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    same_arguments(arguments)
    checkpoint, loras = out / NAME, out / "loras"
    kept = out / "results.json"
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    ways = ways_to_serve(arguments, checkpoint, loras)
    if any(len(found.get(way, {})) < len(SUBJECTS) for way in ways):
        make_checkpoint(arguments.model, checkpoint)
        train(arguments, checkpoint, loras)
        export(out, checkpoint, loras)
    for way, opened in ways.items():
        if len(found.get(way, {})) == len(SUBJECTS):
            continue
        with opened() as answered:
            for subject in SUBJECTS:
                if subject in found.get(way, {}):
                    continue
                items = read(arguments.questions / f"{subject}.dev.jsonl").items
                result = answered([item for item in items if item][: arguments.dev])
                found.setdefault(way, {})[subject] = asdict(result)
                with replacing(kept) as partial:
                    partial.write_text(json.dumps(found))
                print(
                    f"{way}, {subject}: {np.mean(result.right):.1%},"
                    f" {np.mean(result.likelihood):.2f}, {result.seconds:.1f} s",
                    flush=True,
                )
    results = {
        way: {subject: Result(**found[way][subject]) for subject in SUBJECTS} for way in ways
    }
    print(table(results))
    with replacing(out / "table.md") as partial:
        partial.write_text(table(results) + "\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="GGUF file of a real chat model")
    add(
        "--questions",
        type=Path,
        required=True,
        help="folder with <subject>.train.jsonl and <subject>.dev.jsonl",
    )
    add("--out", type=Path, default=Path("report/circle"), help="folder (default: report/circle)")
    add("--train", type=int, default=400, help="training questions of a subject (default: 400)")
    add("--dev", type=int, default=150, help="questions asked of a subject (default: 150)")
    add("--epochs", type=float, default=2, help="of training (default: 2)")
    add("--rank", type=int, default=8, help="of the adapters (default: 8)")
    add("--precision", default="auto", help="of training, as for training.finetune")
    add("--new-tokens", type=int, default=200, help="longest answer (default: 200)")
    return run(_circle, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
