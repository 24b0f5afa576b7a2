"""Every setting: its default, the values it allows and what it means, in one table.

A setting is read from the environment variable of its name in capitals: `batch_size`
from `BATCH_SIZE`. An empty variable counts as not set.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError

from runtime import fields
from runtime.common.errors import SetupError
from runtime.fields import PROJECT_DIR as PROJECT_DIR
from runtime.fields import FilePath, Setting
from runtime.subjects import DEFAULT_FILE, Subjects

log = logging.getLogger(__name__)

_setting = fields.field
# These have the names of the contest's pipeline, and its defaults unless another one is given.
_contest = partial(fields.field, contest=True)
_ADAPTER = "a GGUF adapter or a PEFT folder"
# Settings of earlier versions, and what replaces them.
_GONE = {
    "flash_attention": "llama.cpp decides",
    "answer_cache_mb": "the answer cache takes up to 256 MiB",
}


class _SubjectsFile(BaseModel):
    """The setting that is read first, since it decides which others there are."""

    model_config = ConfigDict(frozen=True)

    subjects_file: FilePath = _setting(
        DEFAULT_FILE,
        "a TOML file",
        "Declares the subjects: names, instructions, adapters ([subjects](subjects.md)).",
    )


class Settings(_SubjectsFile):
    """All settings. `Settings.load()` reads them from the environment.

    `peft_adapters` has each subject's adapter, from `PEFT_ADAPTER_<SUBJECT>` or the setting that
    the subjects file names; `subjects` are those that `subjects_file` declares.
    """

    model_config = ConfigDict(extra="forbid")

    # Which model
    model_name: fields.FileName = _contest(
        "Qwen/Qwen3-1.7B",
        "a hub id, a path to a .gguf file, or demo",
        "The model to serve. A hub id is looked up as GGUF files in `MODELS_DIR` and"
        " `HF_CACHE_DIR`; `demo` is the small model that the `demo` extra installs.",
        min_length=1,
    )
    models_dir: FilePath = _setting(
        PROJECT_DIR / "models", "a folder", "Where GGUF files are kept."
    )
    hf_cache_dir: FilePath = _contest(
        Path("/app/models"), "a folder", "Where GGUF files are looked for after `MODELS_DIR`."
    )
    use_4bit: bool = _contest(
        True, "0 or 1", "1 looks for the Q4_K_M file of `MODEL_NAME`, 0 for the BF16 or F16 one."
    )

    # Where it runs
    device_map: str = _contest(
        "auto",
        "auto, cpu, cuda or cuda:N",
        "`auto` uses a GPU if there is one and llama.cpp was built for it, `cpu` never; `cuda`"
        " requires a GPU, `cuda:N` that one.",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
    )
    n_gpu_layers: int = _setting(
        -1,
        (-1, 1000),
        "Most layers of a model on a GPU, counting the output as one; -1: as many as fit.",
    )
    num_threads: int = _setting(
        0, (0, 512), "CPU threads; 0 is one per core that this process may use."
    )
    prefill_tokens: int = _setting(512, (16, 8192), "Most prompt tokens in one call of llama.cpp.")
    kv_cache_type: Literal["f16", "q8_0"] = _setting(
        "f16",
        "f16 or q8_0",
        "Type of the KV cache; `q8_0` takes half the memory and changes answers.",
    )
    kv_cache_gb: float = _setting(
        0.0,
        (0, 1024),
        "Most memory of a model's KV cache, in GiB; 0: room for `BATCH_SIZE` usual questions and"
        " for the longest ones, at least 1.2. Long questions run in few slots, short ones in many.",
    )
    max_model_len: int = _setting(
        0,
        (-1, 10_000_000),
        "Most tokens of a prompt and its answer together, on the server; 0: what the longest"
        " question needs, -1: what the model was trained for, within `KV_CACHE_GB`.",
    )
    prefix_cache_mb: int = _setting(
        512,
        (0, 1_048_576),
        "Memory in MiB, for each model, in which the server keeps what it computed of prompts and"
        " answers, for later turns of conversations; 0 keeps nothing.",
    )
    stream_gap_ms: int = _setting(
        500,
        (0, 600_000),
        "Most milliseconds between two tokens of a streamed answer while other prompts are"
        " computed, which are split for it; 0 does not split prompts.",
    )
    batch_invariant: bool = _setting(
        False,
        "0 or 1",
        "1: answers are the same to the bit whatever else is asked, in any order and with any"
        " `BATCH_SIZE`. On a CPU only; slower ([serving](serving.md#the-same-answer)).",
    )
    batch_size: int = _contest(48, (1, 240), "Slots: most questions that are decoded at once.")

    # How much it reads and writes
    max_input_tokens: int = _contest(
        1024,
        (16, 131072),
        "Longest prompt, in tokens; a longer question loses its middle, and the log says so.",
    )
    max_new_tokens: int = _contest(
        128,
        (1, 32768),
        "Longest answer, in tokens, before `MAX_TOKENS_MULTIPLIER` and the subject's `length`"
        " ([subjects](subjects.md)).",
    )
    min_new_tokens: int = _contest(
        1, (0, 32768), "No answer ends before this many tokens.", contest_default=20
    )
    max_tokens_multiplier: float = _contest(
        1.0, "over 0, at most 16", "Multiplies `MAX_NEW_TOKENS`.", gt=0, le=16
    )
    stop: fields.Stop = _setting(
        (),
        'a JSON list of texts such as ["\\n\\n"], at most 100 of up to 1000 characters',
        "Strings that end an answer and are not part of it.",
        max_length=100,
    )

    # How it picks tokens
    temperature: fields.Temperature = _contest(
        0.0,
        "0, or 0.000001 to 10",
        "0 always takes the likeliest token.",
        contest_default=0.2,
        ge=0,
        le=10,
        allow_inf_nan=False,
    )
    top_p: float = _contest(
        0.9,
        "0.000001 to 1",
        "Sample from the likeliest tokens up to this total probability.",
        ge=1e-6,
        le=1,
    )
    top_p_cap: float = _contest(
        0.9, "0.000001 to 1", "`TOP_P` is never taken higher than this.", ge=1e-6, le=1
    )
    top_k: int = _contest(20, (0, 1_000_000), "Sample from this many tokens; 0: from all.")
    repetition_penalty: float = _contest(
        1.0, "0.01 to 10", "Over 1 makes repetition less likely; 1 is off.", ge=0.01, le=10
    )
    seed: int = _setting(
        0, (0, 2**63 - 1), "Seed of the random draws, together with each `questionID`."
    )

    # Retrieval
    rag_knowledge_base_dir: FilePath = _contest(
        PROJECT_DIR / "kb", "a folder", "Where knowledge bases are ([knowledge](knowledge.md))."
    )
    rag_top_k: int = _contest(3, (1, 100), "Passages considered per question.")
    rag_enabled_subjects: fields.Uses = _contest(
        {},
        'a JSON dict such as {"geography": true, "history": "always"}',
        "Subjects that use knowledge: `true` where calibration found that it helps,"
        ' `"always"` for every question.',
        max_length=1000,
    )

    # Without the model
    algebra_tool: fields.AlgebraTool = _setting(
        "exact",
        "off or exact",
        "`exact` computes the exercises in algebra that it surely understands (with sympy); the"
        " model answers the others.",
    )
    answer_cache: FilePath | None = _setting(
        None,
        "a folder",
        "Keep completions in this folder, and reuse them for the same question, files and"
        " settings.",
    )

    # The rest
    offline_guard: Literal["on", "process", "off"] = _setting(
        "on",
        "on, process or off",
        "`on` blocks connections made by this project and the Hugging Face libraries,"
        " `process` all of this process, `off` none.",
    )

    # Adapters
    peft_adapter_path: FilePath | None = _contest(
        None, _ADAPTER, "LoRA adapter for every subject that has none of its own."
    )
    adapters_base_dir: FilePath | None = _contest(
        None, "a folder", "Where adapters named `*-lora-<subject>` are looked for."
    )
    peft_adapters: dict[str, FilePath] = _contest({}, _ADAPTER, "LoRA adapter for {subject}.")

    subjects: InstanceOf[Subjects] = Field(exclude=True, repr=False)

    @staticmethod
    def load(**overrides: Any) -> Settings:
        """Settings from the environment; keyword arguments win.

        They have the fields' names; a subject's adapter also that of its setting, such as
        `peft_adapter_history`.

        Raises:
            SetupError: names each wrong setting, its value and what is allowed; or the subjects
                file is wrong.
        """
        subjects = declared_subjects(**overrides)
        own = {subject.setting.lower(): name for name, subject in subjects.items()}
        for setting in own.keys() & Settings.model_fields.keys():
            raise SetupError(
                f"SUBJECTS_FILE={subjects.file}: [{own[setting]}] setting: {setting.upper()} is"
                " another setting; give it one of its own:"
                f' setting = "PEFT_ADAPTER_OF_{own[setting].upper()}"'
            )
        for subject, path in overrides.pop("peft_adapters", {}).items():
            subjects.check(subject, "peft_adapters:")
            overrides.setdefault(subjects[subject].setting.lower(), path)
        given = {**_environment({*Settings.model_fields, *own} - _NOT_VARIABLES), **overrides}
        adapters = {name: given.pop(setting, None) for setting, name in own.items()}
        if set_ones := {name: path for name, path in adapters.items() if path is not None}:
            given["peft_adapters"] = set_ones
        for name in sorted(map(str.upper, os.environ)):
            if name.startswith("PEFT_ADAPTER_") and name.lower() not in {*own, "peft_adapter_path"}:
                log.warning("%s is set, but %s declares no such subject", name, subjects.file)
            elif name.lower() in _GONE:
                log.warning("%s is not a setting any more: %s", name, _GONE[name.lower()])
        try:
            return Settings(**{"subjects": subjects, **given})
        except ValidationError as error:
            names = {("peft_adapters", s.name): s.setting for s in subjects.values()}
            raise SetupError(fields.explain(error, Settings.model_fields, names, _GONE)) from None

    def value_of(self, setting: str) -> Any:
        """The value of a setting by its name in capitals, as in `all_settings`."""
        for subject in self.subjects.values():
            if subject.setting == setting:
                return self.peft_adapters.get(subject.name)
        return getattr(self, setting.lower())

    @property
    def longest_answer(self) -> int:
        """Most new tokens of a usual answer, with the multiplier applied."""
        return self.longest_answer_of(None)

    def longest_answer_of(self, subject: str | None) -> int:
        """Most new tokens of an answer to a question of a subject, or of none."""
        length = self.subjects[subject].length if subject else 1.0
        return ceil(self.max_new_tokens * self.max_tokens_multiplier * length)


# Fields that no environment variable of their name sets.
_NOT_VARIABLES = {"peft_adapters", "subjects"}


def declared_subjects(**overrides: Any) -> Subjects:
    """The subjects of `SUBJECTS_FILE`; no other setting is read.

    Raises:
        SetupError: the setting is wrong, or something in the file is.
    """
    given = {**_environment({"subjects_file"}), **overrides}
    try:
        file = _SubjectsFile(**given).subjects_file
    except ValidationError as error:
        raise SetupError(fields.explain(error, _SubjectsFile.model_fields, {}, {})) from None
    try:
        return Subjects.load(file)
    except SetupError as error:
        raise SetupError(f"SUBJECTS_FILE={error}") from None


def _environment(names: Collection[str]) -> dict[str, str]:
    """The settings of these names, in lower case, that environment variables set."""
    return {n.lower(): value for n, value in os.environ.items() if value and n.lower() in names}


def all_settings(subjects: Subjects | None = None) -> list[Setting]:
    """All settings, with the adapters of some subjects (ours by default), in the order above."""
    adapters = {s.setting: s.name for s in (subjects or Subjects.load()).values()}
    return fields.rows(Settings.model_fields, adapters)
