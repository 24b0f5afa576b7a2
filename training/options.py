"""How an adapter is trained: every option with its default, what it allows and what it means."""

from __future__ import annotations

import argparse
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import TrainingError


class Options(BaseModel):
    """All options that change what is learned; the command line has one for each field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=8, ge=1, le=1024, description="rank of the LoRA matrices")
    alpha: float = Field(
        default=16.0, gt=0, description="LoRA's alpha; the adapter is scaled by alpha/rank"
    )
    dropout: float = Field(default=0.05, ge=0, lt=1, description="dropout before the LoRA matrices")
    target_modules: tuple[str, ...] = Field(
        default=("all-linear",),
        min_length=1,
        description="layers to adapt, by name (q_proj v_proj ...), or all-linear",
    )
    epochs: float = Field(default=3.0, gt=0, description="how often the corpus is read, at most")
    learning_rate: float = Field(default=2e-4, gt=0, description="the highest learning rate")
    warmup: float = Field(
        default=0.05, ge=0, lt=1, description="share of the steps in which it rises"
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="how the learning rate falls after that"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay")
    batch_size: int = Field(default=16, ge=1, description="examples that are computed at once")
    accumulation: int = Field(default=1, ge=1, description="batches that make up one step")
    gradient_checkpointing: bool = Field(
        default=False,
        description="compute activations twice instead of keeping them: slower, less memory",
    )
    max_tokens: int = Field(
        default=1024, ge=32, description="longest example; a longer question loses its middle"
    )
    holdout: float = Field(
        default=0.1, ge=0, lt=1, description="share of the questions that is only evaluated on"
    )
    patience: int = Field(
        default=3,
        ge=0,
        description="stop after so many evaluations without a better loss; 0 never stops",
    )
    check_every: int = Field(
        default=0, ge=0, description="steps between evaluations and checkpoints; 0 is half an epoch"
    )
    seed: int = Field(
        default=0, ge=0, description="of the split, the order, the start and the dropout"
    )
    four_bit: Literal["auto", "on", "off"] = Field(
        default="auto", description="4-bit base (QLoRA); auto where CUDA and bitsandbytes are there"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of the base's weights; auto is bfloat16 on a GPU that has it"
    )

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Options from the command line's values. Raises TrainingError naming each wrong one."""
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [f"--{p['loc'][0]} {p['input']}: {p['msg'].lower()}" for p in error.errors()]
            raise TrainingError("\n".join(lines)) from None

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Give a parser an option for each field."""
        group = parser.add_argument_group("training")
        for name, field in cls.model_fields.items():
            flag, default = f"--{name}", field.default
            meaning = f"{field.description} (default: %(default)s)"
            if isinstance(default, bool):
                group.add_argument(
                    flag, action="store_true", default=default, help=field.description
                )
            elif isinstance(default, tuple):
                group.add_argument(flag, nargs="+", default=list(default), help=meaning)
            else:
                group.add_argument(flag, default=default, metavar="N", help=meaning)
