"""Files that describe a trained adapter: card, settings, losses and their picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from runtime.common import figures
from training.options import Options

CARD = "training.json"
_LOSS_KEYS = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm")


class Card(BaseModel):
    """training.json: how an adapter was made.

    Attributes:
        name: of the adapter.
        subject: the subject of its questions.
        base, base_sha256: the model that it was trained on, and the hash of its files.
        data, data_sha256: the corpus and its hash.
        knowledge_sha256: the knowledge base whose passages were shown before questions, or None.
        options: how it was trained.
        inputs: fingerprint of all these; the same inputs are not trained again.
        examples, held_out: numbers of pairs for training and for evaluation.
        informed: how many examples have passages before the question.
        solved: how many have the solution before the answer.
        steps, best_step: number of steps, and the step whose weights were kept.
        loss: on the training examples, mean of the last tenth of the steps.
        held_out_loss: on the held-out pairs, before training and of the weights that were kept.
        made_with: versions of packages.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    subject: str
    base: str
    base_sha256: str
    data: str
    data_sha256: str
    knowledge_sha256: str | None = None
    options: Options
    inputs: str
    examples: int
    informed: int = 0
    solved: int = 0
    held_out: int
    steps: int
    best_step: int
    loss: float
    held_out_loss: tuple[float, float] | None
    made_with: dict[str, str]


def versions() -> dict[str, str]:
    """Versions of the packages that affect training."""
    return {name: metadata.version(name) for name in ("torch", "transformers", "peft")}


def write_card(folder: Path, card: Card, history: list[dict[str, Any]]) -> None:
    """Write README.md, training.json, loss.jsonl and loss.png into a folder."""
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", "utf-8")
    (folder / "README.md").write_text(_readme(card), "utf-8")
    lines = [{k: entry[k] for k in _LOSS_KEYS if k in entry} for entry in history]
    losses = [line for line in lines if "loss" in line or "eval_loss" in line]
    (folder / "loss.jsonl").write_text("".join(json.dumps(e) + "\n" for e in losses), "utf-8")
    _picture(losses, card, folder / "loss.png")


def _readme(card: Card) -> str:
    options = "\n".join(
        f"| {name} | {' '.join(value) if isinstance(value, tuple) else value} |"
        for name, value in asdict(card.options).items()
    )
    losses = f"training loss {card.loss:.3f}"
    if card.held_out_loss:
        before, after = card.held_out_loss
        losses += f"; held-out loss {before:.3f} before, {after:.3f} after (step {card.best_step})"
    examples = f"{card.examples} pairs"
    if card.informed:
        examples += f" ({card.informed} of them with passages)"
    if card.solved:
        examples += f" ({card.solved} of them with solutions)"
    return f"""---
base_model: {card.base}
library_name: peft
tags: [lora]
---
# {card.name}

A LoRA adapter on {card.base} for questions about {card.subject}, trained on {examples}
of {card.data} and evaluated on {card.held_out} held-out ones; {card.steps} steps, {losses}.

![loss curve](loss.png)

| option | value |
| --- | --- |
{options}

- base, SHA-256 of its files: `{card.base_sha256}`
- corpus, SHA-256: `{card.data_sha256}`
- made with {", ".join(f"{name} {version}" for name, version in card.made_with.items())}
"""


def _picture(losses: list[dict[str, Any]], card: Card, path: Path) -> None:
    with figures.axes(path, 7, 3.5, dpi=120) as axes:
        for key, label, style in (
            ("loss", "training, each step", {"color": figures.PALE, "linewidth": 1}),
            ("eval_loss", "held out", {"color": figures.CONTRAST, "marker": "o"}),
        ):
            points = [(e["step"], e[key]) for e in losses if key in e]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, **style)
        axes.set(xlabel="step", ylabel="loss of an answer's token, nats", title=card.name)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
