"""Turns pairs into batches of token ids: the runtime's prompt, then the answer.

Every prompt of a subject begins with the same tokens, the head of its frame. The head is stored
separately, so that a batch computes it once (see `trainer`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime.prompts import TokenFrame, Tokenizer, prompt_tokens
from training.corpus import Pair

log = logging.getLogger(__name__)

IGNORED = -100  # the label of tokens without a loss


@dataclass(frozen=True)
class Example:
    """Token ids of the prompt after the head, and of the answer with its end token."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def make_examples(
    pairs: Sequence[Pair], tokenizer: Tokenizer, frame: TokenFrame, max_tokens: int
) -> list[Example]:
    """Make an example of each pair; skip those whose answer leaves no room for the question."""
    examples, cut, left_out = [], 0, 0
    for pair in pairs:
        answer = tokenizer.tokenize(pair.learned, follows=True) + frame.end
        room = max_tokens - len(answer)
        if room <= len(frame.head) + len(frame.tail):
            log.warning("%s: skipped, the answer has %d tokens", pair.where, len(answer))
            left_out += 1
            continue
        prompt, was_cut = prompt_tokens(tokenizer, frame, pair.question, room, pair.passages)
        cut += was_cut
        examples.append(Example(prompt[len(frame.head) :], answer))
    if cut:
        log.warning("%d questions were cut in the middle (--max-tokens %d)", cut, max_tokens)
    if left_out:
        log.warning("%d examples were skipped (--max-tokens %d)", left_out, max_tokens)
    return examples


def collate(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Make a batch, padded on the left, so that all answers end at the right edge.

    Returns:
        input_ids, attention_mask, labels: int64 [examples, longest]; labels are `IGNORED`
        except in the answers.
    """
    longest = max(map(len, examples))
    ids = torch.zeros(len(examples), longest, dtype=torch.int64)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, longest - len(example) :] = torch.tensor(example.prompt + example.answer)
        labels[row, longest - len(example.answer) :] = torch.tensor(example.answer)
        mask[row, longest - len(example) :] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
