"""`python -m convert.export_gguf`: convert a base and its LoRA adapters to GGUF files.

python -m convert.export_gguf --base Qwen/Qwen3-1.7B --lora FOLDER --subject history
python -m convert.export_gguf --base Qwen/Qwen3-1.7B --lora FOLDER --subject history --mode adapter
python -m convert.export_gguf --base Qwen/Qwen3-1.7B --loras loras/
python -m convert.export_gguf --base Qwen/Qwen3-1.7B
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run
from runtime.common.extras import require

_STOPPED = "stopped; finished files are kept, and the same command makes the others"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run(_export, _parser().parse_args(argv), _STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument(
        "--base", required=True, help="a checkpoint's folder, a hub id on disk, a GGUF file or demo"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--lora", type=Path, help="a PEFT folder; needs --subject")
    which.add_argument("--loras", type=Path, help="a folder of PEFT folders *-lora-<subject>")
    parser.add_argument("--subject", help="the subject that --lora is for")
    parser.add_argument(
        "--mode",
        choices=["merge", "adapter"],
        default="merge",
        help="merge: a whole model for each subject; adapter: the base once and small adapters",
    )
    parser.add_argument(
        "--type", default="Q4_K_M", type=str.upper, help="quantization (default: Q4_K_M)"
    )
    parser.add_argument(
        "--adapter-type",
        choices=["F32", "F16", "BF16"],
        default="F32",
        help="of GGUF adapters; F16 takes half the space (default: F32)",
    )
    parser.add_argument("--no-base", action="store_true", help="export the adapters only")
    importance = parser.add_mutually_exclusive_group()
    importance.add_argument("--importance", type=Path, help="importance matrix to quantize with")
    importance.add_argument(
        "--calibration",
        nargs="+",
        default=[],
        metavar="FILE",
        help="text to compute it from, such as the training corpus data/train_{subject}.json",
    )
    parser.add_argument("--output", type=Path, help="folder (default: MODELS_DIR)")
    parser.add_argument(
        "--adapter-file",
        metavar="NAME",
        help="convert --lora to a GGUF adapter with this file name and no subject, as serving"
        " does with PEFT folders",
    )
    parser.add_argument(
        "--force", action="store_true", help="export files even if they are up to date"
    )
    return parser


def _export(arguments: argparse.Namespace) -> int:
    require("converting", "convert", "gguf", "transformers")
    from convert.errors import ConvertError
    from convert.exporter import Exporter, Options, export
    from runtime.files.bases import find_base
    from runtime.settings import Settings

    settings = Settings.load()
    if arguments.lora and not (arguments.subject or arguments.adapter_file):
        raise ConvertError("--lora needs --subject")
    if arguments.subject and not arguments.lora:
        raise ConvertError("--subject needs --lora")
    if arguments.subject:
        settings.subjects.check(arguments.subject, "--subject")
    if arguments.no_base and arguments.mode != "adapter":
        raise ConvertError("--no-base needs --mode adapter")
    options = Options(
        folder=arguments.output or settings.models_dir,
        fallback=settings.subjects.fallback,
        type_name=arguments.type,
        importance=arguments.importance,
        calibration=tuple(arguments.calibration),
        adapter_type=arguments.adapter_type,
        force=arguments.force,
    )
    if arguments.adapter_file:
        exporter = Exporter(*find_base(arguments.base, settings), options)
        exporter.export_adapter(arguments.lora, None, arguments.adapter_file)
        return 0
    loras = arguments.loras
    if loras is None:
        loras = {arguments.subject: arguments.lora} if arguments.lora else {}
    failed = export(
        arguments.base,
        settings,
        options,
        loras,
        merge=arguments.mode == "merge",
        with_base=not arguments.no_base,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
