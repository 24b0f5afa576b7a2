"""`python -m convert.verify BASE LORA FILE`: compare a GGUF file with its PEFT model.

Runs the same prompts through the base with its adapter in transformers (float32, on the CPU)
and through the GGUF file in llama.cpp, and compares the predictions at every token:
Kullback-Leibler divergence, agreement on the likeliest token, and the perplexity of both.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run

_QUESTIONS = Path(__file__).resolve().parents[1] / "data" / "sample_questions.jsonl"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("base", help="the checkpoint, as for convert.export_gguf")
    parser.add_argument("lora", help="the PEFT folder, or none")
    parser.add_argument("file", type=Path, help="the GGUF file: merged, base or adapter")
    parser.add_argument("--model", type=Path, help="GGUF base, if FILE is an adapter")
    parser.add_argument(
        "--questions",
        type=Path,
        default=_QUESTIONS,
        help="JSON Lines of questions (default: the sample questions)",
    )
    parser.add_argument("--prompts", type=int, default=32, help="how many (default: 32)")
    parser.add_argument(
        "--cache-type",
        choices=("f32", "f16", "q8_0"),
        default="f32",
        help="type of the KV cache; f32 (default) compares the file alone",
    )
    return run(_verify, parser.parse_args(argv), "stopped; nothing was written")


def _verify(arguments: argparse.Namespace) -> int:
    from convert.comparison import verify
    from runtime.files.bases import find_base
    from runtime.settings import Settings

    settings = Settings.load()
    base, _ = find_base(arguments.base, settings)
    comparison = verify(
        base,
        None if arguments.lora == "none" else Path(arguments.lora),
        arguments.file,
        arguments.questions,
        settings.subjects,
        arguments.model,
        arguments.prompts,
        arguments.cache_type,
    )
    print(comparison.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
