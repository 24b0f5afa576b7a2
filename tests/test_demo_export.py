"""The real demo model, exported with an adapter, says what transformers and peft say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from convert.export_gguf import main
from runtime import loadPipeline
from runtime.files import demo
from tests.checkpoints import error, gguf_logits, save_lora, torch_logits
from tests.conftest import small_settings

pytestmark = pytest.mark.slow
# Logits of a greedy token may lie so far below the likeliest one's: the base is in F16 here.
NOISE = 0.1
NAMES = ["Who built the pyramids?", "What is a castle?", "Who was Caesar?"]
QUESTIONS = [{"questionID": n, "subject": "history", "question": q} for n, q in enumerate(NAMES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def peft(folder: Path) -> Any:
    """The demo with an adapter, which lies in the folder, in transformers."""
    source, targets = demo.packaged_file(), ["q_proj", "v_proj", "up_proj"]
    lora = folder / "demo-lora-history"
    return save_lora(
        lora, source.parent, gguf_file=source.name, spread=0.02, target_modules=targets
    )


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """The demo's GGUF file brought back to F16, in the folder of all exports."""
    assert main(["--base", "demo", "--type", "F16", "--output", str(folder / "models")]) == 0
    (path,) = (folder / "models").glob("*.gguf")
    return path


def test_a_quantized_gguf_file_brought_back_says_what_transformers_makes_of_it(
    base: Path, peft: Any
) -> None:
    with peft.disable_adapter():
        expected = torch_logits(peft)
    assert error(gguf_logits(base), expected) < 1e-3


@pytest.mark.parametrize("mode", ["merge", "adapter"])
def test_each_greedy_token_is_the_peft_models_likeliest_or_ties_with_it(
    folder: Path, base: Path, peft: Any, mode: str
) -> None:
    command = ["--base", "demo", "--lora", str(folder / "demo-lora-history"), "--subject"]
    command += ["history", "--mode", mode, "--type", "F16", "--output", str(base.parent)]
    assert main(command) == 0  # what was exported last is what is served
    chosen = small_settings(
        model_name="HuggingFaceTB/SmolLM2-135M-Instruct", use_4bit=False, models_dir=base.parent
    )
    with loadPipeline(chosen) as pipeline:
        route = pipeline.routes["history"]
        assert (route.adapter is not None) == (mode == "adapter")
        engine = pipeline.engines[route.model]
        prompts: list[Any] = []
        generate = engine.generate

        def spy(requests: Any) -> Any:
            requests = list(requests)
            completions = list(generate(requests))
            prompts.extend((requests[c.index].prompt, c.tokens) for c in completions)
            return iter(completions)

        engine.generate = spy  # type: ignore[method-assign]
        assert all(answer["answer"] for answer in pipeline(QUESTIONS))
    assert len(prompts) == len(QUESTIONS)
    ties = 0
    for prompt, tokens in prompts:
        with torch.inference_mode():
            logits = peft(torch.tensor([[*prompt, *tokens]])).logits[0]
        steps = logits[len(prompt) - 1 : len(prompt) - 1 + len(tokens)]
        gaps = steps.max(dim=1).values - steps[range(len(tokens)), tokens]
        assert gaps.max() < NOISE
        ties += int((gaps > 0).sum())
    assert ties <= 3
