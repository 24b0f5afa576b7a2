"""Where a judge model runs: behind an OpenAI-compatible endpoint, or here, from a GGUF file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, Self

from evaluation.errors import EvaluationError
from runtime.common.errors import SetupError
from runtime.prompts import instructed_frame, prompt_tokens

# A verdict and the sentences before it; a model that thinks first needs most of this.
MAX_REPLY_TOKENS = 1024
# Names of a server's models that an error lists, and bytes of a reply that it shows.
_LISTED, _SHOWN = 10, 80
# What endpoints say where the fault is this one prompt's, and others may do.
_PROMPT_REFUSED = re.compile("content.(?:filter|management|policy)|context.length", re.IGNORECASE)


class Backend(Protocol):
    """A model that answers prompts, always in the same way."""

    @property
    def name(self) -> str:
        """Which model this is; replies of another name are not reused."""

    def ask(self, rubric: str, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Answer prompts; yields the index of each with the reply, as replies come in.

        A prompt that this model cannot answer gets an empty reply.

        Args:
            rubric: the system message.
            prompts: the user messages; untrusted text.

        Raises:
            EvaluationError: the model cannot be asked; the message says what to do.
        """


class Endpoint:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        base_url: such as "https://api.openai.com/v1".
        model: its name there.
        key_variable: environment variable with the key; a server that asks for none needs none.
        timeout: seconds for one request.
        retries: how often a request that failed for the moment is sent again.
        at_once: how many requests are under way at a time.

    Raises:
        EvaluationError: the `openai` package is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        retries: int = 4,
        at_once: int = 4,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise EvaluationError(
                "a judge model behind an endpoint needs the openai package:"
                " pip install '.[evaluation]'"
            ) from error
        self.base_url = base_url
        self.model = model
        self._key_variable = key_variable
        self._at_once = at_once
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=base_url,
            # The client refuses to be without a key, even where the server wants none.
            api_key=os.environ.get(key_variable) or "none",
            timeout=timeout,
            max_retries=retries,
        )

    @property
    def name(self) -> str:
        return f"{self.model} at {self.base_url}"

    def only_model(self) -> str:
        """The name of the server's one model. Raises EvaluationError."""
        try:
            response = self._client.models.with_raw_response.list()
        except self._openai.OpenAIError as error:
            raise EvaluationError(self._explained(error)) from error
        match self._parsed(response.content):
            case {"data": [*models]} if all(isinstance(each, dict) for each in models):
                names = [str(each.get("id")) for each in models]
            case _:
                raise EvaluationError(self._not_openai(response.content))
        if len(names) != 1:
            listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
            raise EvaluationError(
                f"{self.base_url} has {len(names)} models ({listed}): choose one by --judge-name"
            )
        return names[0]

    def ask(self, rubric: str, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        pool = ThreadPoolExecutor(self._at_once)
        try:
            futures = {pool.submit(self._reply, rubric, p): n for n, p in enumerate(prompts)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _reply(self, rubric: str, prompt: str) -> str:
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[
                    {"role": "system", "content": rubric},
                    {"role": "user", "content": prompt},
                ],
                temperature=0,
                max_tokens=MAX_REPLY_TOKENS,
            )
        except self._openai.OpenAIError as error:
            bad_request = isinstance(error, self._openai.BadRequestError)
            if bad_request and _PROMPT_REFUSED.search(f"{error} {error.body}"):
                return ""
            raise EvaluationError(self._explained(error)) from error
        match self._parsed(response.content):
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return text.encode("utf-8", "replace").decode("utf-8")  # may have lone surrogates
            case {"choices": [] | None | [{"message": {"content": None}}, *_]}:
                return ""
        raise EvaluationError(self._not_openai(response.content))

    def _parsed(self, body: bytes) -> Any:
        """A reply as JSON; None if it is none."""
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None

    def _not_openai(self, body: bytes) -> str:
        start = " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
        return (
            f"{self.base_url} does not reply as OpenAI's API does ({start!r}): check its address,"
            " which often ends in /v1"
        )

    def _explained(self, error: Exception) -> str:
        said = " ".join(str(error).split())[:200]
        if isinstance(error, self._openai.AuthenticationError):
            advice = f"set {self._key_variable} to a key that it takes"
        elif isinstance(error, self._openai.NotFoundError):
            advice = f"check its address, and that it has the model {self.model}".rstrip()
        elif isinstance(error, self._openai.BadRequestError):
            advice = "judge with a model that takes chat messages, temperature and max_tokens"
        elif isinstance(error, self._openai.APITimeoutError):
            advice = "it is too slow, or hangs: judge with a smaller model, then --resume"
        elif isinstance(error, self._openai.APIConnectionError):
            advice = "check its address and that it is running"
        else:
            advice = "try again later; verdicts so far are kept"
        return f"the judge model's endpoint {self.base_url} gave no reply ({said}): {advice}"


def only_model(base_url: str, key_variable: str = "OPENAI_API_KEY") -> str:
    """The name of the one model of an OpenAI-compatible server.

    Raises:
        EvaluationError: the server does not tell, or has several models; or the `openai` package
            is not installed.
    """
    return Endpoint(base_url, "", key_variable, retries=1).only_model()


class LocalModel:
    """A model in a GGUF file, which answers all prompts in one batch.

    It owns its engine: `close()` it or use it in a `with`.

    Args:
        path: the GGUF file.
        slots: how many prompts are answered at once.
        cells_per_slot: tokens of a prompt with its reply.
        threads: CPU threads.
        gpu_layers: layers to offload; -1 is all.
        max_reply_tokens: longest reply.

    Raises:
        EvaluationError: the file cannot be loaded, its chat template cannot be used, or the
            rubric and a reply do not fit into a slot.
    """

    def __init__(
        self,
        path: Path,
        slots: int = 8,
        cells_per_slot: int = 4096,
        threads: int = 2,
        gpu_layers: int = 0,
        max_reply_tokens: int = MAX_REPLY_TOKENS,
    ) -> None:
        # Only now: it changes this process's environment, which pipelines under test inherit.
        from runtime.engine import Engine, EngineError, EngineOptions

        try:
            self._engine = Engine.load(
                path, EngineOptions(slots, cells_per_slot, threads), gpu_layers=gpu_layers
            )
        except EngineError as error:
            raise EvaluationError(f"the judge model cannot be loaded: {error}") from error
        self._max_reply_tokens = max_reply_tokens
        # Whoever puts another model in the file's place hardly keeps its size to the byte.
        self.name = f"{path.name} of {path.stat().st_size} bytes"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model. A second call does nothing."""
        self._engine.close()

    def ask(self, rubric: str, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        from runtime.engine import Request, SamplingParams

        try:
            frame = instructed_frame(self._engine.model, rubric)
        except SetupError as error:
            raise EvaluationError(f"{error}: judge with another model") from None
        room = self._engine.max_prompt_tokens - self._max_reply_tokens
        if room < 2 * (len(frame.head) + len(frame.tail)):
            raise EvaluationError(
                "the judge model's slots are too small for the rubric and a reply:"
                " give it more cells_per_slot"
            )
        params = SamplingParams(max_new_tokens=self._max_reply_tokens)
        requests = [
            Request(
                prompt_tokens(self._engine.model, frame, prompt, room)[0], params, group="judge"
            )
            for prompt in prompts
        ]
        for completion in self._engine.generate(requests):
            yield completion.index, completion.text
