"""mistral.rs on the same GGUF file, one question after another.

Its `Runner` accepts requests from one thread only; from a second it raises "Already borrowed".
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from benchmarks.contenders.work import Answer, Work, serve


def load(work: Work) -> tuple[Answer, dict[str, str]]:
    import mistralrs

    path = Path(work.model).resolve()
    which = mistralrs.Which.GGUF(quantized_model_id=str(path.parent), quantized_filename=path.name)
    runner = mistralrs.Runner(which=which, max_seqs=work.slots)

    def answer() -> tuple[list[str], int]:
        texts, tokens = [], 0
        for prompt in work.prompts:
            request = mistralrs.CompletionRequest(
                prompt=prompt.text,
                model="default",
                max_tokens=work.new_tokens,
                temperature=0.0,
                ignore_eos=True,
            )
            found = runner.send_completion_request(request)
            texts.append(found.choices[0].text)
            tokens += found.usage.completion_tokens
        return texts, tokens

    return answer, {"mistralrs": metadata.version("mistralrs")}


if __name__ == "__main__":
    serve(load)
