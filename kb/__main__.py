"""`python -m kb`: from raw files and questions to a knowledge base, an adapter and a proven gate.

python -m kb --subject history --raw raw/ --train train.jsonl --dev dev.jsonl \\
    --base Qwen/Qwen3-1.7B --out history

The base is made of the raw files. Some of the training questions teach an adapter to use
passages; on the others a gate is chosen and proved. The development questions are then answered by
the model as it is, with the adapter, and with passages: report.md says what was gained, lost and
paid. A run that was stopped or killed continues when it is started again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from runtime.common.command import parser_for, run
from runtime.common.extras import require


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = sys.argv[1:] if argv is None else argv
    at = given.index("--") if "--" in given else len(given)
    arguments = _parser().parse_args(given[:at])
    arguments.options = given[at + 1 :]
    return run(_whole, arguments, "stopped; the same command continues from there")


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.usage = (
        "%(prog)s --subject SUBJECT --raw RAW ... --train FILE ... --dev FILE ... --base BASE"
        " --out FOLDER [option ...] [-- option of training.finetune ...]"
    )
    parser.epilog = " ".join(__doc__.split("\n\n")[-1].split())
    add = parser.add_argument
    files: dict[str, Any] = {"required": True, "nargs": "+", "type": Path}
    add("--subject", required=True, help="the subject of the base, the adapter and the gate")
    add("--raw", metavar="PATH", help="files or folders of raw knowledge", **files)
    add("--train", metavar="FILE", help="questions for the adapter and the gate", **files)
    add(
        "--dev",
        metavar="FILE",
        help="questions for the report; they are used for nothing else, even if --train has them",
        **files,
    )
    add("--base", required=True, help="checkpoint's folder, hub id on disk, GGUF file or demo")
    add("--out", required=True, type=Path, metavar="FOLDER", help="folder for everything made")
    add(
        "--gate-share",
        type=float,
        default=0.4,
        metavar="SHARE",
        help="share of the training questions to choose and prove the gate on, not trained on"
        " (default: 0.4)",
    )
    add(
        "--type",
        default="Q4_K_M",
        type=str.upper,
        help="quantization of a checkpoint (default: Q4_K_M)",
    )
    add(
        "--no-adapter",
        action="store_true",
        help="do not train: all training questions are for the gate of the model as it is",
    )
    return parser


def _whole(arguments: argparse.Namespace) -> int:
    require("evaluating", "evaluation", "opencc", "math_verify", "matplotlib")
    if not arguments.no_adapter:
        require("training", "train", "torch", "transformers", "peft", "accelerate", "gguf")
    _check_training(arguments)
    from kb.whole import Whole

    print(Whole(arguments).go())
    return 0


def _check_training(arguments: argparse.Namespace) -> None:
    """Refuse the options after "--" that training would refuse, before anything is made.

    Raises:
        UserError: an option is unknown, is set by this command, or has a wrong value.
    """
    from runtime.common.errors import UserError
    from training.options import Options, add_bad_records, dashed

    if arguments.no_adapter and arguments.options:
        raise UserError(f"--no-adapter trains nothing; leave out {' '.join(arguments.options)}")
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    Options.add_to(parser)
    add_bad_records(parser)
    try:
        known, unknown = parser.parse_known_args(list(map(dashed, arguments.options)))
    except argparse.ArgumentError as error:
        raise UserError(f"options of training.finetune: {error}") from None
    if unknown:
        raise UserError(
            f"options of training.finetune: {' '.join(unknown)}: there is no such option, or"
            " python -m kb sets it"
        )
    Options.parse(vars(known))


if __name__ == "__main__":
    sys.exit(main())
