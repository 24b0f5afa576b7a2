"""The bodies of requests: every field with its type and bounds.

Types are strict: a string is not a number. Fields that would change the answer and are not
served are refused (see `fields`); unknown ones are ignored.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from runtime.serve.body.common import Body, Metadata, Text, joined
from runtime.serve.body.fields import REFUSED, REFUSED_IN_CHATS, REFUSED_IN_COMPLETIONS
from runtime.serve.body.forms import Forms
from runtime.serve.chat.usage import Usage
from runtime.serve.tools.request import (
    FUNCTION_CALL,
    MOST_CALLS,
    MOST_TOOLS,
    Called,
    CallId,
    Function,
    FunctionChoice,
    Named,
    Offer,
    Tool,
    ToolCall,
    ToolChoice,
    offer,
    offer_of_functions,
)

MOST_NEW = 1_000_000
MOST_TOKENS = 200_000  # of a prompt given as ids
MOST_PROMPTS = 2048
MOST_CHOICES = 64
MOST_MESSAGES = 512
MOST_LOGPROBS = 20

TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class StreamOptions(Body):
    include_usage: bool = False
    continuous_usage_stats: bool = False


TokenIds = Annotated[list[TokenId], Field(max_length=MOST_TOKENS)]
# A token, or a text whose tokens are all meant, and what is added; false forbids it.
Bias = Annotated[list[int | str | float | bool], Field(min_length=2, max_length=2)]


class Sampling(Forms):
    """What completions and chat have in common. None is the server's setting."""

    refused = REFUSED
    model: Name = Field(description="A model of /v1/models: a subject, the bare base, or auto.")
    subject: Annotated[str, Field(max_length=500)] | None = Field(
        None,
        description="With model auto: the question's subject; the fallback if it is not known.",
    )
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = Field(
        None, description="0 or -1 is no limit."
    )
    min_tokens: Annotated[int, Field(ge=0, le=MOST_NEW)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = Field(
        None, description="The same for the last repeat_last_n tokens, 64 by default; -1 is all."
    )
    repeat_last_n: Annotated[int, Field(ge=-1, le=MOST_NEW)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], float], Field(max_length=10_000)
        ]
        | Annotated[list[Bias], Field(max_length=10_000)]
        | None
    ) = None
    allowed_token_ids: TokenIds | None = None
    bad_words: Annotated[list[Stop], Field(max_length=1000)] | None = None
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=100)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = Field(
        None, description="-1 is chance, as without it."
    )
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = Field(
        None, description="Write this many, and return the n likeliest by token."
    )
    ignore_eos: bool = False
    prompt_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = Field(
        None, description="Also say how likely each token of the prompt is, and its rivals."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("temperature")
    @classmethod
    def _not_tiny(cls, value: float | None) -> float | None:
        return 0.0 if value is not None and value < 1e-6 else value

    @field_validator("seed")
    @classmethod
    def _any_seed(cls, value: int | None) -> int | None:
        return None if value == -1 else value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for stream: true only")
        if self.prompt_logprobs is not None and self.stream:
            raise ValueError("prompt_logprobs are not streamed")
        if self.repeat_penalty is not None and self.repetition_penalty is not None:
            raise ValueError("give repetition_penalty or repeat_penalty, not both")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError("best_of is below n")
        if self.stream and self.n_written > (self.n or 1):
            raise ValueError("best_of over n is not streamed: all must be written first")
        return self

    @property
    def n_written(self) -> int:
        """How many choices are written for each prompt."""
        return max(self.n or 1, self.best_of or 1)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(Sampling):
    """Of /v1/completions."""

    refused: ClassVar = {**REFUSED, **REFUSED_IN_COMPLETIONS}
    prompt: Annotated[
        str
        | Annotated[list[TokenId], Field(min_length=1, max_length=MOST_TOKENS)]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1, max_length=MOST_TOKENS)]],
            Field(min_length=1, max_length=MOST_PROMPTS),
        ],
        Field(description="A text, token ids, or a list of either."),
    ]
    max_tokens: Annotated[int, Field(ge=0, le=MOST_NEW)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    add_special_tokens: bool = Field(
        True, description="Put the vocabulary's begin-of-sequence token, if any, before texts."
    )

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.max_tokens == 0 and not (self.echo and self.logprobs is not None):
            raise ValueError("max_tokens is 0: that needs echo and logprobs")
        if self.prompt_logprobs is not None and self.echo and self.logprobs is not None:
            raise ValueError("echo with logprobs scores the prompt: leave prompt_logprobs out")
        return self

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list of texts or of token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_CALLS)] | None = None
    tool_call_id: CallId | None = None
    function_call: Called | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.calls and self.role != "assistant":
            raise ValueError("only the assistant makes tool_calls or a function_call")
        if self.tool_calls and self.function_call:
            raise ValueError("give tool_calls or function_call, not both")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a result of a tool needs its tool_call_id")
        if self.content is None and not self.calls:
            raise ValueError("content is missing")
        return self

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools in it, in either form."""
        if self.function_call is not None:
            return (ToolCall(id=FUNCTION_CALL, function=self.function_call),)
        return tuple(self.tool_calls or ())

    @property
    def result_of(self) -> str | None:
        """The id of the call whose result it is, if it is one."""
        return FUNCTION_CALL if self.role == "function" else self.tool_call_id

    @property
    def text(self) -> str:
        return joined(self.content)


class ChatBody(Sampling):
    """Of /v1/chat/completions."""

    refused: ClassVar = {**REFUSED, **REFUSED_IN_CHATS}
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_NEW)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_NEW)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    clean: bool | None = Field(
        None, description="Take away what is known to be no answer; true for subjects, else false."
    )
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = Field(
        None, description="none, auto (the default), required, or one of the tools."
    )
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(max_length=MOST_TOOLS)] | None = Field(
        None, description="The older form of tools."
    )
    function_call: FunctionChoice | None = Field(
        None, description="none, auto (the default), or one of the functions."
    )
    continue_final_message: bool | None = Field(
        None, description="Go on with the last message, the assistant's; true where it is one."
    )
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the chat template, such as enable_thinking."
    )

    @field_validator("chat_template_kwargs")
    @classmethod
    def _few_and_free(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        taken = sorted({"messages", "tools", "bos_token", "eos_token"} & set(value or {}))
        if taken:
            raise ValueError(f"{taken[0]} cannot be set here")
        try:
            length = len(json.dumps(value))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if length > 10_000:
            raise ValueError("it is longer than 10,000 characters")
        return value

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        self.offer  # noqa: B018  (raises ValueError)
        return self

    @property
    def usage(self) -> Usage:
        """How the messages are put into the chat template."""
        given = self.chat_template_kwargs or {}
        # As templates get it anyway.
        usual = not given or given == {"enable_thinking": False}
        variables = "" if usual else json.dumps(given, sort_keys=True)
        return Usage(self.continue_final_message, self.add_generation_prompt, variables)

    @property
    def offer(self) -> Offer | None:
        """The tools that the answer may call, if any. Raises ValueError."""
        if self.functions and self.tools:
            raise ValueError("give tools or functions, not both")
        if self.functions:
            return offer_of_functions(self.functions, self.function_call)
        if isinstance(self.function_call, Named):
            raise ValueError("function_call names a function, but there are no functions")
        return offer(self.tools or (), self.tool_choice, self.parallel_tool_calls is not False)


class TokenizeBody(Body):
    """Of /tokenize: a text, or messages to be put into the chat template."""

    model: Name | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages")
        return self


class DetokenizeBody(Body):
    model: Name | None = None
    tokens: Annotated[list[TokenId], Field(max_length=MOST_TOKENS)]


class LoadAdapterBody(Body):
    lora_name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w.:/@+-]+$")]
    lora_path: Annotated[str, Field(min_length=1, max_length=4000)]


class UnloadAdapterBody(Body):
    lora_name: Name


class Expiry(Body):
    """When a file is deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class BatchBody(Body):
    """Of /v1/batches."""

    input_file_id: Name
    endpoint: Literal["/v1/chat/completions", "/v1/completions"]
    completion_window: Literal["24h"] = "24h"
    output_expires_after: Expiry | None = None
    metadata: Metadata | None = None
