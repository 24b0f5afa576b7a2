"""`Llama.create_chat_completion`, one question after another.

Options: `flash_attention`, true or false (llama-cpp-python's default); `repack`, whether llama.cpp
copies weights into its own order (its default), for which `Llama` has no argument.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from benchmarks.contenders.work import Answer, Work, serve


def load(work: Work) -> tuple[Answer, dict[str, str]]:
    import llama_cpp
    from llama_cpp import llama_chat_format

    if not work.options.get("repack", True):
        library: Any = llama_cpp.llama_cpp
        defaults = library.llama_model_default_params

        def plain() -> Any:
            params = defaults()
            params.use_extra_bufts = False
            return params

        library.llama_model_default_params = plain
    llama = llama_cpp.Llama(
        work.model,
        n_ctx=work.cells,
        n_threads=work.threads,
        n_threads_batch=work.threads,
        flash_attn=work.options["flash_attention"],
        verbose=False,
    )
    never_end(llama)
    # With its own template Qwen3 would think, which changes the prompt.
    rendered = {prompt.question["question"].strip(): prompt.text for prompt in work.prompts}
    bos = llama.detokenize([llama.token_bos()], special=True).decode()

    def formatter(messages: list[dict[str, str]], **_: Any) -> Any:
        text = rendered[messages[-1]["content"]]
        has_bos = bool(bos) and text.startswith(bos)
        return llama_chat_format.ChatFormatterResponse(prompt=text, added_special=has_bos)

    llama.chat_handler = llama_chat_format.chat_formatter_to_chat_completion_handler(formatter)

    def answer() -> tuple[list[str], int]:
        texts, tokens = [], 0
        for prompt in work.prompts:
            completion: Any = llama.create_chat_completion(
                [{"role": "user", "content": prompt.question["question"].strip()}],
                max_tokens=work.new_tokens,
                temperature=0.0,
                repeat_penalty=1.0,
            )
            texts.append(completion["choices"][0]["message"]["content"])
            tokens += completion["usage"]["completion_tokens"]
        return texts, tokens

    return answer, {"llama-cpp-python": metadata.version("llama-cpp-python")}


def never_end(llama: Any) -> None:
    """Let no token end an answer. `logit_bias` would be slow: it copies the logits to Python."""
    import llama_cpp
    from llama_cpp import _internals

    vocab = llama._model.vocab
    ends = [t for t in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocab, t)]

    class Endless(_internals.LlamaSampler):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.add_logit_bias(llama.n_vocab(), dict.fromkeys(ends, float("-inf")))

    _internals.LlamaSampler = Endless


if __name__ == "__main__":
    serve(load)
