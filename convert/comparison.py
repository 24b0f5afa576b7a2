"""Compares a GGUF file with the PEFT model that it was made from; see `convert.verify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from convert.errors import ConvertError
from convert.gguf_file import GgufFile
from convert.torch_model import load_torch_model
from runtime.engine.batch import Batch
from runtime.engine.context import CacheType, Context, FlashAttention
from runtime.engine.llama import physical_cores
from runtime.engine.model import Model
from runtime.engine.sampling import log_softmax
from runtime.prompts import prompt_tokens, tokenized_frame
from runtime.questions import read_file
from runtime.subjects import Subjects

# Tokens of a prompt that are compared.
_LONGEST = 256


@dataclass(frozen=True)
class Comparison:
    """Two models' predictions at the same tokens.

    Attributes:
        divergence: KL divergence of the second from the first, in nats, float64 [tokens].
        same_top: whether both have the same likeliest token, bool [tokens].
        surprise: -log p of the true next token in both, in nats, float64 [2, tokens].
        largest_error: largest difference of logits, as a share of the largest logit.
    """

    divergence: np.ndarray
    same_top: np.ndarray
    surprise: np.ndarray
    largest_error: float

    def report(self) -> str:
        """The figures as text."""
        ours, theirs = np.exp(self.surprise.mean(axis=1))
        percentiles = np.percentile(self.divergence, [50, 99, 100])
        return "\n".join(
            [
                f"tokens compared       {len(self.divergence)}",
                f"KL divergence         mean {self.divergence.mean():.6f} nats, median"
                f" {percentiles[0]:.6f}, 99 % {percentiles[1]:.6f}, largest {percentiles[2]:.6f}",
                f"same likeliest token  {self.same_top.mean():.2%}",
                f"perplexity            {ours:.4f} in transformers, {theirs:.4f} in llama.cpp",
                f"largest logit error   {self.largest_error:.2e} of the largest logit",
            ]
        )


def compare(
    reference: Callable[[Sequence[int]], np.ndarray],
    candidate: Callable[[Sequence[int]], np.ndarray],
    prompts: Sequence[Sequence[int]],
) -> Comparison:
    """Compare two models, each a function from token ids to logits [tokens, vocab]."""
    divergence, same, surprise, errors = [], [], [], []
    for prompt in tqdm(prompts, unit="prompt", desc="compare", disable=None):
        first, second = reference(prompt), candidate(prompt)
        width = min(first.shape[1], second.shape[1])
        first, second = first[:, :width].astype(np.float64), second[:, :width].astype(np.float64)
        errors.append(np.abs(first - second).max() / np.abs(first).max())
        log_p, log_q = log_softmax(first), log_softmax(second)
        divergence.append((np.exp(log_p) * (log_p - log_q)).sum(axis=1))
        same.append(first.argmax(axis=1) == second.argmax(axis=1))
        rows, following = np.arange(len(prompt) - 1), np.asarray(prompt[1:])
        surprise.append(np.stack([-log_p[rows, following], -log_q[rows, following]]))
    return Comparison(
        np.concatenate(divergence),
        np.concatenate(same),
        np.concatenate(surprise, axis=1),
        max(errors),
    )


class GgufModel:
    """A GGUF file, with a GGUF adapter or without, as a function from ids to logits.

    With the KV cache in f32 the file alone is compared; other types also have the errors of
    serving, with flash attention.
    """

    def __init__(
        self, path: Path, adapter: Path | None = None, cache_type: CacheType = "f32"
    ) -> None:
        self.model = Model(path)
        flash: FlashAttention = "off" if cache_type == "f32" else "on"
        self._adapter = None if adapter is None else "adapter"
        if adapter is not None:
            self.model.load_adapter("adapter", adapter)
        self._context = Context(
            self.model,
            1,
            0,
            _LONGEST,
            physical_cores(),
            flash_attention=flash,
            cache_type=cache_type,
        )
        self._batch = Batch(self._context.max_tokens)

    def __call__(self, tokens: Sequence[int]) -> np.ndarray:
        self._context.clear_all()
        n = len(tokens)
        batch = self._batch.fill(tokens, np.arange(n), 0, 1)
        return self._context.run(batch, adapter=self._adapter).logits.copy()

    def close(self) -> None:
        self.model.close()


def transformers_model(base: Path, lora: Path | None) -> Callable[[Sequence[int]], np.ndarray]:
    """The base with a PEFT adapter in transformers, as a function from ids to logits.

    Raises:
        ConvertError: torch, transformers or peft is missing, or the model cannot be loaded.
    """
    try:
        import torch
        from peft import PeftModel
    except ImportError as error:
        raise ConvertError(f"{error}: pip install 'subject-lora-serve[train]'") from None
    model = load_torch_model(base, dtype=torch.float32)

    if lora is not None:
        try:
            model = PeftModel.from_pretrained(model, lora)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConvertError(f"{lora}: peft cannot load it ({error})") from None
    model.eval()

    def logits(tokens: Sequence[int]) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.tensor([list(tokens)])).logits[0].float().numpy())

    return logits


def prompts_for(model: Model, questions: Path, most: int, subjects: Subjects) -> list[list[int]]:
    """The runtime's prompts for the questions of a file."""
    prompts: list[list[int]] = []
    for question in read_file(questions):
        if question.problem or len(prompts) == most:
            continue
        frame = tokenized_frame(model, subjects.of(question.subject).name, subjects)
        prompts.append(prompt_tokens(model, frame, question.text, _LONGEST)[0])
    if not prompts:
        raise ConvertError(f"{questions}: no questions to compare with")
    return prompts


def verify(
    base: Path,
    lora: Path | None,
    file: Path,
    questions: Path,
    subjects: Subjects,
    model: Path | None = None,
    prompts: int = 32,
    cache_type: CacheType = "f32",
) -> Comparison:
    """Compare a GGUF file with the PEFT model that it was made from.

    Args:
        base, lora: the checkpoint and the PEFT folder; None for the bare base.
        file: a merged model, a base or an adapter.
        questions, prompts: a file; the runtime's prompts for its first questions are compared.
        model: the GGUF base, if `file` is an adapter.
        cache_type: see `GgufModel`.

    Raises:
        ConvertError: a file cannot be read, or `model` is missing.
    """
    adapter = None
    if GgufFile(file).kind == "adapter":
        if model is None:
            raise ConvertError(f"{file} is an adapter: pass its GGUF base with --model")
        file, adapter = model, file
    reference = transformers_model(base, lora)
    candidate = GgufModel(file, adapter, cache_type)
    try:
        return compare(
            reference, candidate, prompts_for(candidate.model, questions, prompts, subjects)
        )
    finally:
        candidate.close()
