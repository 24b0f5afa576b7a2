"""Whether an answer is right: judges of the answers to one set of questions.

`judge` goes by rules: no network, no model, always the same verdict. `ModelJudge` asks a language
model behind an `Endpoint` or in a GGUF file (`LocalModel`) and falls back on `judge`:

    verdict = judge(item, "The capital of Canada is Ottawa.")

    with LocalModel(Path("models/Qwen3-1.7B-Q4_K_M.gguf")) as model:
        verdicts = ModelJudge(model, cache=Path("verdicts.jsonl")).judge_all(pairs)

An empty answer, an error and a refusal are wrong with both.
"""

from typing import TYPE_CHECKING

from runtime.common.doors import lazy

if TYPE_CHECKING:
    from evaluation.judges.backends import Backend, Endpoint, LocalModel
    from evaluation.judges.model import RUBRIC, RUBRIC_SHA256, ModelJudge
    from evaluation.judges.rules import judge
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "evaluation.judges.backends": ["Backend", "Endpoint", "LocalModel"],
            "evaluation.judges.rules": ["judge"],
            "evaluation.judges.model": ["RUBRIC", "RUBRIC_SHA256", "ModelJudge"],
        },
    )

__all__ = ["RUBRIC", "RUBRIC_SHA256", "Backend", "Endpoint", "LocalModel", "ModelJudge", "judge"]
