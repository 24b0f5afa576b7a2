"""Answers on many machines: a pipeline in each actor of Ray Data (extra `[ray]`).

python -m runtime.on_ray --input questions.jsonl --output answers.jsonl --actors 2
python -m runtime.on_ray --input questions.parquet --output answers --actors 2

`AnswerQuestions` is what `ray.data.Dataset.map_batches` takes; the command is a thin layer on it.
Ray decides where actors run, which CPUs and GPUs they get, and what is repeated when one is lost.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common import command
from runtime.common.errors import SetupError

if TYPE_CHECKING:
    from ray.data import Dataset

    from runtime.questions import Question
    from runtime.settings import Settings
    from runtime.way import Answer

_COLUMNS = ("questionID", "subject", "question")
# What comes back of an answer to a question in a file.
_FIELDS = ("answer", "problem", "cut")
# Batches at an actor: one that it answers and one that waits, so that the actor is never idle
# and the other batches can go to any actor.
_IN_FLIGHT = 2
# Ray gives an error of a worker as the text of its traceback, which ends with the message.
_OURS = re.compile(r"\n(?:[\w.]+\.)?(?:SetupError|EngineError): (.+)\Z", re.DOTALL)


class AnswerQuestions:
    """Adds the column `answer` to batches of questions, for `Dataset.map_batches`.

    Each actor loads a pipeline once:

        dataset.repartition(target_num_rows_per_block=256).map_batches(
            AnswerQuestions,
            batch_format="pyarrow",
            fn_constructor_kwargs={"model_name": "demo"},
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=1,
        )

    Unless they are set, `NUM_THREADS` follows the CPUs that the actor has reserved, and
    `DEVICE_MAP` the GPUs. Outside Ray it is a plain callable with the defaults of `loadPipeline()`.
    """

    def __init__(self, **settings: Any) -> None:
        """Load the pipeline, with settings as for `Settings.load` over the actor's environment.

        Raises:
            SetupError: a wrong setting, a missing file, too little memory.
            EngineError: a file that llama.cpp cannot load.
        """
        from runtime.pipeline import loadPipeline
        from runtime.settings import Settings

        set_already = Settings.load(**settings).model_fields_set
        reserved = {name: value for name, value in _reserved().items() if name not in set_already}
        self._pipeline = loadPipeline(Settings.load(**settings, **reserved))

    @property
    def settings(self) -> Settings:
        """What the pipeline was loaded with."""
        return self._pipeline.settings

    def __call__(self, batch: Any) -> Any:
        """The batch with a further column `answer` (n texts).

        A row that cannot be answered gets "ERROR: not answered: " and the reason.

        Args:
            batch: n rows, as columns in NumPy (Ray's usual form) or as a table of pyarrow, which
                leaves columns of lists and empty numbers as they are; with `question`, and
                perhaps `questionID` and `subject`.

        Raises:
            SetupError: there is no column `question`, or already one called `answer`.
        """
        names = list(batch) if isinstance(batch, dict) else batch.column_names
        if "question" not in names:
            raise SetupError(
                'the data set has no column "question", it has'
                f" {', '.join(map(repr, names)) or 'none'}: rename_columns() gives one its name"
            )
        if "answer" in names:
            raise SetupError(
                'the data set already has a column "answer", where answers go:'
                ' rename it first, as by rename_columns({"answer": "reference"})'
            )
        looked_at = [name for name in _COLUMNS if name in names]
        if isinstance(batch, dict):
            columns = [batch[name].tolist() for name in looked_at]
        else:
            columns = [batch[name].to_pylist() for name in looked_at]
        rows = [dict(zip(looked_at, row, strict=True)) for row in zip(*columns, strict=True)]
        answers = [answer["answer"] for answer in self._pipeline(rows)]
        if isinstance(batch, dict):
            import numpy as np

            return {**batch, "answer": np.array(answers, dtype=object)}
        import pyarrow

        return batch.append_column("answer", pyarrow.array(answers, pyarrow.string()))

    def close(self) -> None:
        """Free the model."""
        self._pipeline.close()


class _AnswerPlaces(AnswerQuestions):
    """For files: questions that are parsed already, and their places in the file."""

    def __call__(self, batch: Any) -> Any:
        """What `_FIELDS` names, for a table of `place` and `question` (as JSON)."""
        import pyarrow

        from runtime.questions import Question

        questions = [Question(**json.loads(text)) for text in batch["question"].to_pylist()]
        answers = sorted(self._pipeline.stream(questions), key=lambda answer: answer.index)
        return pyarrow.table(
            {
                "place": batch["place"],
                **{name: [getattr(answer, name) for answer in answers] for name in _FIELDS},
            }
        )


def _reserved() -> dict[str, Any]:
    """The settings that follow from what this actor has reserved in Ray; none outside an actor."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return {}
    resources = context.get_assigned_resources()
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    from runtime.engine import physical_cores

    # Ray shows an actor only its own GPUs, so "cuda" means those. If it has reserved none, a GPU
    # that llama.cpp can still see belongs to another actor.
    values: dict[str, Any] = {"device_map": "cuda" if gpus else "cpu"}
    if cpus or gpus:  # nothing follows from num_cpus=0, which Ray does not count
        values["num_threads"] = min(max(1, int(cpus)), physical_cores())
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return command.run(_answer, options, stopped=command.resumable(options.output))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime.on_ray",
        description="Answer questions on the machines of Ray, or on a Ray of this machine's own.",
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="questions: JSON Lines, or a .parquet file or a folder of such",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="file for the answers, JSON Lines; of Parquet a new folder, on all machines the same",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with what a stopped run left beside OUTPUT (JSON Lines only)",
    )
    parser.add_argument("--actors", type=_positive, default=1, help="pipelines; default 1")
    parser.add_argument("--cpus", type=float, default=1, help="CPUs of each; default 1")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each; default 0")
    parser.add_argument(
        "--batch",
        type=_positive,
        default=256,
        help="questions that an actor is given at once; default 256",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _answer(options: argparse.Namespace) -> int:
    from runtime.answer_file import answer_questions, questions_of
    from runtime.settings import Settings

    source, target = options.input, options.output
    if not source.exists():
        raise SetupError(f"{source}: no such file")
    import ray.data

    settings = Settings.load()  # a wrong setting is reported here, before anything starts
    is_parquet = source.is_dir() or source.suffix == ".parquet"
    if is_parquet and options.resume:
        raise SetupError("--resume is for JSON Lines: docs/ray.md shows Ray's own way for Parquet")
    if is_parquet and target.exists():
        raise SetupError(f"{target} exists; --output of Parquet is a new folder")
    if not is_parquet:
        answer_questions(
            questions_of(source, target),
            target,
            options.resume,
            settings,
            lambda: _actors(settings, options),
            lambda actors, _: f"; {options.actors} actors",
            show=False,
        )
        return 0
    with _ray(options):
        rows = ray.data.read_parquet(str(source.absolute()))
        rows = rows.repartition(target_num_rows_per_block=options.batch)
        answers = _mapped(rows, AnswerQuestions, settings, options)
        answers.write_parquet(str(target.absolute()))
    print(f"answers are in {target}", file=sys.stderr)
    return 0


@contextmanager
def _actors(settings: Settings, options: argparse.Namespace) -> Iterator[_Actors]:
    with _ray(options):
        yield _Actors(settings, options)


class _Actors:
    """Answers questions as a pipeline does, each once, as batches of them are done."""

    def __init__(self, settings: Settings, options: argparse.Namespace) -> None:
        self._settings = settings
        self._options = options

    def stream(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Answers as soon as each is there; `index` is the place in `questions`."""
        import pyarrow
        import ray.data

        from runtime.way import Answer

        # No actor waits while another has more than a batch.
        count = min(self._options.batch, math.ceil(len(questions) / self._options.actors))
        texts = [json.dumps(asdict(question)) for question in questions]
        blocks = [
            pyarrow.table(
                {
                    "place": list(range(start, min(start + count, len(texts)))),
                    "question": texts[start : start + count],
                }
            )
            for start in range(0, len(texts), count)
        ]
        dataset = ray.data.from_arrow(blocks)
        answered = _mapped(dataset, _AnswerPlaces, self._settings, self._options)
        for batch in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in batch.to_pylist():
                place = row.pop("place")
                yield Answer(place, questions[place].id, **row)


def _mapped(
    dataset: Dataset, kind: type[AnswerQuestions], settings: Settings, options: argparse.Namespace
) -> Dataset:
    import ray.data

    return dataset.map_batches(
        kind,
        batch_size=None,  # blocks have the right size
        batch_format="pyarrow",
        fn_constructor_kwargs=_shipped(settings),
        compute=ray.data.ActorPoolStrategy(
            size=options.actors, max_tasks_in_flight_per_actor=_IN_FLIGHT
        ),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
    )


def _shipped(settings: Settings) -> dict[str, Any]:
    """The settings that are set here, for actors whose environment and folder are others."""
    values = settings.model_dump(include=settings.model_fields_set)
    for name, value in values.items():
        if isinstance(value, Path) or (name == "model_name" and Path(value).is_file()):
            values[name] = str(Path(value).absolute())
    for subject, path in values.get("peft_adapters", {}).items():
        values["peft_adapters"][subject] = str(path.absolute())
    return values


@contextmanager
def _ray(options: argparse.Namespace) -> Iterator[None]:
    """Join the Ray that `RAY_ADDRESS` names, or start one on this machine; left at the end.

    Raises:
        SetupError: what an actor raised in the block, in words.
    """
    import ray

    try:
        _start(options)
        yield
    except ray.exceptions.RayError as error:
        raise SetupError(_explained(error)) from None
    finally:
        ray.shutdown()


def _start(options: argparse.Namespace) -> None:
    import ray.data

    # No usage statistics are sent; this must be set before Ray starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    asked_to_end = signal.getsignal(signal.SIGTERM)
    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level="warning")
    else:
        # Ray's own tasks, which read and write, need a CPU beside those that actors hold. "local":
        # without it ray.init() would join whatever `ray start` left on this machine.
        cpus = math.ceil(options.actors * options.cpus) + 1
        ray.init("local", num_cpus=cpus, include_dashboard=False, logging_level="warning")
    signal.signal(signal.SIGTERM, asked_to_end)  # Ray's own handler ends without a message
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Its log, which Ray's own files have too, has every step, and a traceback for an error.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _explained(error: BaseException) -> str:
    """What went wrong on a worker, without its traceback."""
    text = ""
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).strip() or text
        if found := _OURS.search(text):
            return found[1].strip()
        cause = cause.__cause__ or cause.__context__
    return text or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
