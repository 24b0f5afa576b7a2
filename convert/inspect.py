"""`python -m convert.inspect FILE`: describe GGUF files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from runtime.common.command import parser_for, run


def describe(path: Path) -> Iterator[str]:
    """Describe a file: kind, size, types, tokenizer and its manifest entry, line by line.

    Raises:
        ConvertError: not a GGUF file.
    """
    from convert.gguf_file import GgufFile

    file = GgufFile(path)
    get = file.field
    kind = file.kind
    arch = get("general.architecture")
    name = get("general.name") or path.stem
    finetune = get("general.finetune")
    yield f"{path}: {kind} “{name}”" + (f", tuned for {finetune}" if finetune else "")
    yield f"  size          {path.stat().st_size / 1e6:,.1f} MB"
    elements: Counter[str] = Counter()
    for tensor in file.tensors:
        elements[tensor.tensor_type.name] += int(tensor.n_elements)
    total = sum(elements.values())
    shares = ", ".join(f"{t} {n / max(total, 1):.0%}" for t, n in elements.most_common())
    yield f"  weights       {total / 1e6:,.1f} million in {len(file.tensors)} tensors: {shares}"
    if kind == "imatrix":
        chunks, size = get("imatrix.chunk_count"), get("imatrix.chunk_size")
        yield f"  text          {chunks} chunks of {size} tokens of {get('imatrix.datasets')}"
    elif kind == "adapter":
        ranks = {int(t.shape[1]) for t in file.tensors if t.name.endswith(".lora_a")}
        targets = {t.name.split(".")[-3] for t in file.tensors if t.name.endswith(".lora_a")}
        alpha = get("adapter.lora.alpha")
        yield f"  for           {arch} models; rank {sorted(ranks)}, alpha {alpha}"
        yield f"  adapts        {', '.join(sorted(targets))}"
    else:
        yield f"  architecture  {arch}, {get(f'{arch}.block_count')} layers,"
        yield (
            f"                width {get(f'{arch}.embedding_length')}, heads"
            f" {get(f'{arch}.attention.head_count')} ({get(f'{arch}.attention.head_count_kv')} for"
            f" keys and values), {get(f'{arch}.context_length'):,} positions"
        )
        tokens = get("tokenizer.ggml.tokens") or []
        template = get("tokenizer.chat_template")
        thinking = ", can think" if template and "enable_thinking" in template else ""
        yield (
            f"  tokenizer     {get('tokenizer.ggml.model')} ({get('tokenizer.ggml.pre')}),"
            f" {len(tokens):,} tokens, {'a' if template else 'no'} chat template{thinking}"
        )
        head = "its own" if any(t.name == "output.weight" for t in file.tensors) else "embedding"
        yield f"  output head   {head}"
    yield from _manifest(path)


def _manifest(path: Path) -> Iterator[str]:
    from runtime.files.manifest import Manifest, problem_with

    entry = Manifest.load(path.resolve().parent).find(path.name)
    if entry is None:
        yield "  manifest      not listed"
        return
    made = ", ".join(f"{name} {version}" for name, version in entry.made_with.items())
    of = f"{entry.base}" + (f" and {entry.adapter}" if entry.adapter else "")
    subject = f" for {entry.subject}" if entry.subject else ""
    yield f"  manifest      {entry.role}{subject}, {entry.quantization}, made of {of} with {made}"
    if entry.importance:
        yield f"                importance matrix {entry.importance[:12]}…"
    problem = problem_with(path.resolve().parent, entry)
    yield f"                {problem or 'unaltered'}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="GGUF files")
    return run(_inspect, parser.parse_args(argv))


def _inspect(arguments: argparse.Namespace) -> int:
    for path in arguments.files:
        print(*describe(path), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
