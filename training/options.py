"""The options of training, with defaults, bounds and help texts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from training.errors import TrainingError


def _option(default: Any, meaning: str, **bounds: Any) -> Any:
    """A field of `Options`; numbers may have the bounds `least`, `above`, `most` and `below`."""
    return field(default=default, metadata={"meaning": meaning, **bounds})


@dataclass(frozen=True)
class Options:
    """All options that affect the result; each field is an option of the command line."""

    rank: int = _option(8, "rank of the LoRA matrices", least=1, most=1024)
    alpha: float = _option(16.0, "LoRA's alpha; the adapter is scaled by alpha/rank", above=0)
    dropout: float = _option(0.05, "dropout before the LoRA matrices", least=0, below=1)
    target_modules: tuple[str, ...] = _option(
        ("all-linear",), "layers to adapt, by name (q_proj v_proj ...), or all-linear"
    )
    epochs: float = _option(3.0, "passes over the corpus, at most", above=0)
    learning_rate: float = _option(2e-4, "the highest learning rate", above=0)
    warmup: float = _option(
        0.05, "share of the steps in which the learning rate rises", least=0, below=1
    )
    schedule: Literal["cosine", "linear", "constant"] = _option(
        "cosine", "how the learning rate falls after that"
    )
    weight_decay: float = _option(0.0, "AdamW's weight decay", least=0)
    batch_size: int = _option(16, "examples that are computed together", least=1)
    accumulation: int = _option(1, "batches that make up one step", least=1)
    gradient_checkpointing: bool = _option(
        False, "compute activations twice instead of keeping them: slower, less memory"
    )
    max_tokens: int = _option(
        1024, "longest example; longer questions are cut in the middle", least=32
    )
    holdout: float = _option(
        0.1, "share of the questions that is held out for evaluation", least=0, below=1
    )
    patience: int = _option(
        3, "stop after this many evaluations without a better loss; 0: never", least=0
    )
    check_every: int = _option(
        0, "steps between evaluations and checkpoints; 0 is half an epoch", least=0
    )
    seed: int = _option(
        0, "seed of the split, the order, the initial weights and the dropout", least=0
    )
    four_bit: Literal["auto", "on", "off"] = _option(
        "auto", "4-bit base (QLoRA); auto: if CUDA and bitsandbytes are available"
    )
    precision: Literal["auto", "float32", "bfloat16"] = _option(
        "auto", "of the base's weights; auto: bfloat16 on GPUs that support it"
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Options from the command line's values. Raises TrainingError with all wrong values."""
        parsed, problems = {}, []
        for each in fields(cls):
            if each.name in values:
                value = values[each.name]
                try:
                    parsed[each.name] = _parsed(each, value)
                except ValueError as error:
                    problems.append(f"{flag(each.name)} {value}: {error}")
        if problems:
            raise TrainingError("\n".join(problems))
        return cls(**parsed)

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Add an option for each field to a parser."""
        group = parser.add_argument_group("training")
        for each in fields(cls):
            name, default, meaning = flag(each.name), each.default, each.metadata["meaning"]
            shown = " ".join(default) if isinstance(default, tuple) else default
            if isinstance(default, bool):
                group.add_argument(name, action="store_true", default=default, help=meaning)
                continue
            nargs = "+" if isinstance(default, tuple) else None
            choices = ", ".join(_CHOICES.get(each.name, ()))
            group.add_argument(
                name,
                nargs=nargs,
                default=default,
                metavar="NAME" if nargs else each.name.rpartition("_")[2].upper(),
                help=f"{meaning} ({choices + '; ' if choices else ''}default: {shown})",
            )


_CHOICES = {
    name: get_args(hint)
    for name, hint in get_type_hints(Options).items()
    if get_origin(hint) is Literal
}


def dashed(argument: str) -> str:
    """An argument with dashes in its option's name; underscores are an older spelling."""
    name, equals, value = argument.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else argument


def add_bad_records(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what to do with bad records."""
    parser.add_argument(
        "--bad-records",
        choices=["skip", "refuse"],
        default="skip",
        help="skip bad records and list them, or stop (default: skip)",
    )


def flag(name: str) -> str:
    """The command-line option of a field."""
    return "--" + name.replace("_", "-")


def _parsed(option: Field[Any], value: Any) -> Any:
    """Convert a value to the option's type and check its bounds. Raises ValueError."""
    default, bounds = option.default, option.metadata
    if isinstance(default, bool):
        return bool(value)
    if isinstance(default, tuple):
        return tuple(value)
    if isinstance(default, str):
        if value not in (choices := _CHOICES[option.name]):
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value
    number = int if isinstance(default, int) else float
    try:
        parsed = number(value)
    except (ValueError, OverflowError):
        kind = "a whole number" if number is int else "a number"
        raise ValueError(f"must be {kind}") from None
    if not math.isfinite(parsed):
        raise ValueError("must be a number")
    for name, right, words in (
        ("least", parsed >= bounds.get("least", parsed), "at least"),
        ("above", "above" not in bounds or parsed > bounds["above"], "over"),
        ("most", parsed <= bounds.get("most", parsed), "at most"),
        ("below", "below" not in bounds or parsed < bounds["below"], "under"),
    ):
        if not right:
            raise ValueError(f"must be {words} {bounds[name]}")
    return parsed
