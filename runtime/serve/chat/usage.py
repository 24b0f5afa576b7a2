"""How a body wants its messages put into the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.serve.errors import ApiError, invalid

Turn = tuple[str, str]  # (role, text)


@dataclass(frozen=True)
class Usage:
    """How a conversation is put into the chat template."""

    continues: bool | None = None  # the last message; None if that is the assistant's
    asks: bool | None = None  # the prompt ends with the beginning of an answer; None: or continues
    variables: str = ""  # further ones of the template, as JSON

    @property
    def is_usual(self) -> bool:
        """Whether a single question is asked as it is in lists."""
        return not self.variables and not self.continues and self.asks is not False

    def of(self, turns: Sequence[Turn]) -> Usage:
        """The usage for a conversation, without None. Raises ApiError."""
        last = turns[-1][0] == "assistant"
        continues = last and not self.asks if self.continues is None else self.continues
        asks = not continues if self.asks is None else self.asks
        if continues and not last:
            raise _contradiction("the last message is not the assistant's")
        if continues and asks:
            raise _contradiction("add_generation_prompt contradicts it")
        return Usage(continues, asks, self.variables)


USUAL = Usage()


def _contradiction(reason: str) -> ApiError:
    return invalid(f"continue_final_message: {reason}", "continue_final_message")
