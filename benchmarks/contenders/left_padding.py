"""transformers in batches padded on the left, as in the pipeline that this project replaces.

The weights are those of the same GGUF file, dequantized to float32 (bfloat16 is slower on a CPU
without instructions for it). Options: `rank` of a peft LoRA adapter on all linear layers; none
without it.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from benchmarks.contenders.work import Answer, Work, serve


def load(work: Work) -> tuple[Answer, dict[str, str]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(work.threads)
    path = Path(work.model).resolve()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    packages = ["transformers", "torch"]
    if rank := work.options.get("rank"):
        from peft import LoraConfig, get_peft_model

        packages.append("peft")
        lora = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear")
        model = get_peft_model(model, lora)
    model.eval()

    def batch(rows: list[list[int]]) -> list[list[int]]:
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=work.new_tokens,
            min_new_tokens=work.new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return [list(row) for row in made[:, longest:].tolist()]

    def answer() -> tuple[list[str], int]:
        ids: list[list[int]] = []
        with torch.inference_mode():
            for first in range(0, len(work.prompts), work.slots):
                ids += batch([p.tokens for p in work.prompts[first : first + work.slots]])
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return list(texts), sum(map(len, ids))

    return answer, {name: metadata.version(name) for name in packages}


if __name__ == "__main__":
    serve(load)
