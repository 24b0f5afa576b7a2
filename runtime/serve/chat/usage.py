"""How a body wants its messages put into the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.serve.errors import ApiError

Turn = tuple[str, str]  # (role, text)


@dataclass(frozen=True)
class Usage:
    """How a conversation is put into the chat template.

    Attributes:
        continues: the answer goes on with the last message, which is the assistant's; None does
            so wherever that is the last.
        asks: the prompt ends with the beginning of an answer; None unless it continues.
        variables: further variables of the template, as JSON.
    """

    continues: bool | None = None
    asks: bool | None = None
    variables: str = ""

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
            raise wrong_field("continue_final_message", "the last message is not the assistant's")
        if continues and asks:
            raise wrong_field("continue_final_message", "add_generation_prompt contradicts it")
        return Usage(continues, asks, self.variables)


USUAL = Usage()


def wrong_field(field: str, reason: str) -> ApiError:
    return ApiError(400, f"{field}: {reason}", field, "invalid_value")
