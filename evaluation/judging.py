"""The judges that the command line offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.judges import Backend, Endpoint, LocalModel, ModelJudge, judge
from evaluation.judges.backends import only_model
from evaluation.records import Item, Verdict
from runtime.common.machine import cpus

Pair = tuple[Item, str]
Judge = Callable[[Sequence[Pair]], list[Verdict]]


@dataclass(frozen=True)
class Judging:
    """A way to judge pairs of a question and an answer.

    Attributes:
        name: what the verdicts depend on; accuracies are compared only under the same.
        open: a context that gives the function which judges pairs, in their order. Enter it after
            the call has ended: a model takes memory and cores.
        at_once: how many pairs it judges at a time; a kill loses the verdicts on at most these.
    """

    name: str
    open: Callable[[], AbstractContextManager[Judge]]
    at_once: int = 1


def rules() -> Judging:
    """The judges that compare texts by rules."""

    def judge_all(pairs: Sequence[Pair]) -> list[Verdict]:
        return [judge(item, answer) for item, answer in pairs]

    return Judging("rules", lambda: nullcontext(judge_all))


def model(where: str, name: str | None, budget: int | None, cache: Path) -> Judging:
    """A language model, where the text alone does not decide.

    Args:
        where: the URL of an OpenAI-compatible server, or a .gguf file.
        name: what the server calls the model; None asks the server, which must have only one.
        budget: how many prompts it may be sent, or None for no limit.
        cache: file where its replies are kept from one evaluation to the next.

    Raises:
        EvaluationError: no such file or server, or no name where one is needed.
    """
    if where.startswith(("http://", "https://")):
        endpoint = Endpoint(where, name or only_model(where))
        label = endpoint.model

        def backend() -> AbstractContextManager[Backend]:
            return nullcontext(endpoint)

    else:
        path = Path(where)
        if not path.is_file():
            raise EvaluationError(f"--judge-model {where}: neither a URL nor a file that is there")
        label = path.name

        def backend() -> AbstractContextManager[Backend]:
            return LocalModel(path, threads=cpus().cores)

    @contextmanager
    def opened() -> Iterator[Judge]:
        with backend() as answering:
            yield ModelJudge(answering, cache, budget).judge_all

    limit = "" if budget is None else f", asked at most {budget} times"
    return Judging(f"model {label}{limit}", opened, at_once=32)


def choose(
    kind: str | None, where: str | None, name: str | None, budget: int | None, cache: Path
) -> Judging:
    """The judges of the command line's options. Raises EvaluationError.

    Args:
        kind: "model", "rules", or None for the one that `where` calls for.
    """
    if kind == "rules" and where:
        raise EvaluationError("--judge rules asks no model: leave --judge-model out")
    if where:
        return model(where, name, budget, cache)
    if kind == "model" or name or budget is not None:
        raise EvaluationError("a judge model needs --judge-model URL or FILE.gguf")
    return rules()
