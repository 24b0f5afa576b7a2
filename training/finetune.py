"""`python -m training.finetune`: train LoRA adapters on corpora of questions and answers.

python -m training.finetune --model Qwen/Qwen3-1.7B --data-algebra data/train_algebra.json
python -m training.finetune --model demo --data-history a.jsonl --data-chinese b.jsonl --resume
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.common.command import parser_for, run
from runtime.common.extras import require
from training.options import Options, add_bad_records, dashed

_LORAS = Path(__file__).resolve().parents[1] / "loras"
_CORPUS = "--data-"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    corpora, others = _corpora(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(others)
    arguments.corpora = corpora
    stopped = "stopped; the same command with --resume continues from the last checkpoint"
    return run(_finetune, arguments, stopped)


def _corpora(argv: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Split a command line into the corpora `--data-SUBJECT FILE`, by subject, and the rest.

    The subjects are those of SUBJECTS_FILE, which is not read for --help. Options with underscores
    instead of dashes are an older spelling.
    """
    corpora: dict[str, Path] = {}
    others = []
    rest = iter(argv)
    for argument in rest:
        if not argument.startswith("--"):
            others.append(argument)
            continue
        name, equals, value = dashed(argument).partition("=")
        if name.startswith(_CORPUS) and name != _CORPUS:
            file = value if equals else next(rest, None)
            if file is None or (not equals and file.startswith("--")):
                _parser().error(f"argument {name}: expected a file")
            corpora[name.removeprefix(_CORPUS).replace("-", "_")] = Path(file)
        else:
            others.append(f"{name}{equals}{value}")
    return corpora, others


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument(
        "--model",
        required=True,
        help="a checkpoint's folder, a hub id on disk, a GGUF file or demo",
    )
    parser.add_argument(
        f"{_CORPUS}SUBJECT",
        metavar="FILE",
        help="corpus of a subject, such as --data-history FILE; one or more",
    )
    parser.add_argument("--out", type=Path, default=_LORAS, help="folder (default: loras)")
    add_bad_records(parser)
    parser.add_argument(
        "--knowledge",
        type=Path,
        metavar="FOLDER",
        help="knowledge bases: also train on each question with the passages found for it",
    )
    parser.add_argument("--resume", action="store_true", help="continue stopped runs")
    Options.add_to(parser)
    return parser


def _finetune(arguments: argparse.Namespace) -> int:
    require("training", "train", "torch", "transformers", "peft", "accelerate")
    from dataclasses import fields

    from runtime.common.command import explain
    from runtime.common.errors import UserError
    from runtime.common.offline import guard
    from runtime.retrieval import Index
    from runtime.retrieval.files import base_path
    from runtime.settings import Settings
    from training.base import Base, choose_device, in_four_bits
    from training.errors import TrainingError
    from training.job import Job, train
    from training.lessons import Plan, prepare

    settings = Settings.load()
    subjects = settings.subjects
    names = ", ".join(f"{_CORPUS}{subject}" for subject in subjects)
    if not arguments.corpora:
        raise TrainingError(f"no corpus: give one or more of {names}")
    for subject in arguments.corpora:
        if subject not in subjects:
            raise TrainingError(f"{_CORPUS}{subject}: no such subject; choose from {names}")
    corpora = {s: arguments.corpora[s] for s in subjects if s in arguments.corpora}
    folder: Path | None = arguments.knowledge
    known = [s for s in corpora if folder and base_path(folder, s).exists()]
    if folder and not known:
        raise TrainingError(
            f"--knowledge {folder}: has no base for {' or '.join(corpora)}; make one with python"
            " -m kb.preprocess"
        )
    options = Options.parse({each.name: getattr(arguments, each.name) for each in fields(Options)})
    failed = 0
    with guard(settings.offline_guard):
        base = Base.find(arguments.model, settings)
        use_cpu = choose_device(settings.device_map)
        in_four_bits(options, use_cpu, base.path.is_file())  # refuse early
        for subject, data in corpora.items():
            # If one corpus fails, the others are still trained.
            try:
                knowledge = Index.load(folder, subject) if folder and subject in known else None
                skip_bad = arguments.bad_records == "skip"
                plan = Plan(subject, data, options, skip_bad, knowledge, settings.rag_top_k)
                job = Job(base, prepare(plan, base, subjects), arguments.out)
                train(job, use_cpu, arguments.resume)
            except (UserError, OSError) as error:
                print(f"error: {subject}: {explain(error)}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
