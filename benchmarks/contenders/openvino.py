"""OpenVINO GenAI's continuous batching on the same GGUF file, which it converts while loading."""

from __future__ import annotations

from importlib import metadata

from benchmarks.contenders.work import Answer, Work, serve


def load(work: Work) -> tuple[Answer, dict[str, str]]:
    import numpy as np
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = work.slots
    scheduler.enable_prefix_caching = True  # the prompts' heads are the same within a subject
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        work.model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": work.threads}
    )
    config = openvino_genai.GenerationConfig(
        max_new_tokens=work.new_tokens,
        min_new_tokens=work.new_tokens,
        ignore_eos=True,
        do_sample=False,
    )
    inputs = [openvino.Tensor(np.array([prompt.tokens], np.int64)) for prompt in work.prompts]

    def answer() -> tuple[list[str], int]:
        found = pipeline.generate(inputs, [config] * len(inputs))
        ids = [list(each.m_generation_ids[0]) for each in found]
        return list(pipeline.get_tokenizer().decode(ids)), sum(map(len, ids))

    build = {name: metadata.version(name) for name in ("openvino-genai", "openvino")}
    return answer, build


if __name__ == "__main__":
    serve(load)
