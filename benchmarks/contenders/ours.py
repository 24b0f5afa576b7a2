"""This pipeline: `loadPipeline()`, one call with all questions.

Options: `adapters`, a list of GGUF adapters; the subjects of the questions take them in turn.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from benchmarks.common import of_one_length
from benchmarks.contenders.work import Answer, Work, serve


def load(work: Work) -> tuple[Answer, dict[str, str]]:
    from runtime import Settings, __version__, loadPipeline
    from runtime.settings import declared_subjects

    adapters = [Path(name) for name in work.options.get("adapters", [])]
    asked = [prompt.question for prompt in work.prompts]
    declared = declared_subjects()
    names = sorted({declared.of(question["subject"]).setting for question in asked})
    routes = {name.lower(): adapters[n % len(adapters)] for n, name in enumerate(names) if adapters}
    settings = Settings.load(
        model_name=work.model,
        batch_size=work.slots,
        num_threads=work.threads,
        max_input_tokens=work.cells - work.new_tokens,
        max_new_tokens=work.new_tokens,
        min_new_tokens=work.new_tokens,
        temperature=0.0,
        device_map="cpu",
        algebra_tool="off",
        **routes,
    )
    pipeline = loadPipeline(of_one_length(settings))

    def answer() -> tuple[list[str], int]:
        texts = [str(answer["answer"]) for answer in pipeline(asked)]
        return texts, int(pipeline.stats.new_tokens)

    build = {"this": __version__, "llama-cpp-python": metadata.version("llama-cpp-python")}
    return answer, build


if __name__ == "__main__":
    serve(load)
