"""Every setting, with its default, what it allows and what it means, in one table.

A setting is read from the environment variable of its name in capitals: `batch_size`
from `BATCH_SIZE`. An empty variable counts as not set.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    create_model,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.common.errors import SetupError
from runtime.subjects import DEFAULT_FILE, Subjects

log = logging.getLogger(__name__)

PROJECT_DIR = Path(__file__).resolve().parent.parent

_ADAPTER = "a GGUF adapter or a PEFT folder"
# No system takes longer paths, in bytes.
_LONGEST_PATH = 4096


def _setting(default: Any, allowed: str, meaning: str, **constraints: Any) -> Any:
    extra: dict[str, Any] = {"allowed": allowed}
    return Field(default, description=meaning, json_schema_extra=extra, **constraints)


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from None


def _usable_in_a_path(value: Any) -> Any:
    """The value, if the file system can be asked for it."""
    if isinstance(value, (str, Path)):
        raw = os.fsencode(value)
        if b"\0" in raw:
            raise ValueError("it has a NUL character in it")
        if len(raw) > _LONGEST_PATH:
            raise ValueError(f"it is longer than {_LONGEST_PATH} bytes")
    return value


def _zero_or_divisor(value: float) -> float:
    if 0 < value < 1e-6:
        raise ValueError("logits divided by it would be infinite")
    return value


def _true_false_or_always(value: Any) -> Any:
    if isinstance(value, bool) or value == "always":
        return value
    raise ValueError('it must be true, false or "always"')


# What names files, before they are looked for.
_Path = Annotated[Path, BeforeValidator(_usable_in_a_path)]
_Name = Annotated[str, BeforeValidator(_usable_in_a_path)]
_Use = Annotated[bool | Literal["always"], PlainValidator(_true_false_or_always)]


class _SubjectsFile(BaseSettings):
    """The setting that is read first: it says which others there are."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    subjects_file: _Path = _setting(
        DEFAULT_FILE,
        "a TOML file",
        "The subjects: names, instructions, the settings of their adapters; see docs/subjects.md.",
    )


def declared_subjects(**overrides: Any) -> Subjects:
    """The subjects of `SUBJECTS_FILE`; no other setting is read.

    Raises:
        SetupError: the setting is wrong, or something in the file is.
    """
    try:
        file = _SubjectsFile(**overrides).subjects_file
    except ValidationError as error:
        raise SetupError(_explain(error, _SubjectsFile)) from None
    try:
        return Subjects.load(file)
    except SetupError as error:
        raise SetupError(f"SUBJECTS_FILE={error}") from None


class Settings(_SubjectsFile):
    """All settings. `Settings.load()` reads them from the environment.

    Attributes:
        subjects: those that `subjects_file` declares.
    """

    model_config = SettingsConfigDict(extra="forbid")

    subjects: ClassVar[Subjects]

    # Which model
    model_name: _Name = _setting(
        "Qwen/Qwen3-1.7B",
        "a hub id, a path to a .gguf file, or demo",
        "The model to serve. A hub id is looked up as GGUF files in `MODELS_DIR` and"
        " `HF_CACHE_DIR`; `demo` is the small model that the `demo` extra installs.",
        min_length=1,
    )
    models_dir: _Path = _setting(PROJECT_DIR / "models", "a folder", "Where GGUF files are kept.")
    hf_cache_dir: _Path = _setting(
        Path("/app/models"), "a folder", "Where GGUF files are looked for after `MODELS_DIR`."
    )
    use_4bit: bool = _setting(
        True, "0 or 1", "1 looks for the Q4_K_M file of `MODEL_NAME`, 0 for the BF16 or F16 one."
    )

    # Where it runs
    device_map: str = _setting(
        "auto",
        "auto, cpu, cuda or cuda:N",
        "`auto` uses the GPU if there is one and llama.cpp was built for it, `cpu` never; `cuda:N`"
        " wants that one, `cuda` any.",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
    )
    n_gpu_layers: int = _setting(
        -1,
        "-1 to 1000",
        "Most layers of a model that lie on a GPU, the output counted as one; -1 is as many as"
        " fit, 0 none.",
        ge=-1,
        le=1000,
    )
    num_threads: int = _setting(
        0,
        "0 to 512",
        "CPU threads; 0 is one per core. Processes that share cores need fewer each.",
        ge=0,
        le=512,
    )
    prefill_tokens: int = _setting(
        512, "16 to 8192", "Most prompt tokens of a llama.cpp call.", ge=16, le=8192
    )
    flash_attention: Literal["auto", "on", "off"] = _setting(
        "auto", "auto, on or off", "llama.cpp's flash attention."
    )
    kv_cache_type: Literal["f16", "q8_0"] = _setting(
        "f16",
        "f16 or q8_0",
        "Type of the KV cache; `q8_0` takes half the memory and changes answers.",
    )
    kv_cache_gb: float = _setting(
        0.0,
        "0 to 1024",
        "Most memory of a model's KV cache, in GiB; 0 is 1.2, or what the longest questions"
        " need. Long questions run in few slots, short ones in many.",
        ge=0,
        le=1024,
    )
    batch_size: int = _setting(
        48, "1 to 240", "Slots: how many questions are decoded at once at most.", ge=1, le=240
    )

    # How much it reads and writes
    max_input_tokens: int = _setting(
        1024,
        "16 to 131072",
        "Longest prompt; a longer question loses its middle, and the log says so.",
        ge=16,
        le=131072,
    )
    max_new_tokens: int = _setting(
        128,
        "1 to 32768",
        "Longest answer; of subjects that need more (algebra) times their `length`"
        " ([subjects](subjects.md)).",
        ge=1,
        le=32768,
    )
    min_new_tokens: int = _setting(
        20,
        "0 to 32768",
        "No end of answer before so many tokens (at most the longest answer).",
        ge=0,
        le=32768,
    )
    max_tokens_multiplier: float = _setting(
        1.0, "over 0, at most 16", "Multiplies `MAX_NEW_TOKENS`.", gt=0, le=16
    )
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
        NoDecode,
        BeforeValidator(_from_json),
    ] = _setting(
        (),
        'a JSON list of texts such as ["\\n\\n"], at most 100 of up to 1000 characters',
        "Strings that end an answer and are cut from it.",
        max_length=100,
    )

    # How it picks tokens
    temperature: Annotated[float, AfterValidator(_zero_or_divisor)] = _setting(
        0.2,
        "0, or 0.000001 to 10",
        "0 always takes the likeliest token.",
        ge=0,
        le=10,
        allow_inf_nan=False,
    )
    top_p: float = _setting(
        0.9, "0.000001 to 1", "Sample from the likeliest tokens up to this share.", ge=1e-6, le=1
    )
    top_p_cap: float = _setting(
        0.9, "0.000001 to 1", "`TOP_P` is never taken higher than this.", ge=1e-6, le=1
    )
    top_k: int = _setting(
        20, "0 to 1000000", "Sample from so many tokens; 0 is no limit.", ge=0, le=1_000_000
    )
    repetition_penalty: float = _setting(
        1.0, "0.01 to 10", "Over 1 makes repetition less likely; 1 is off.", ge=0.01, le=10
    )
    seed: int = _setting(
        0,
        "0 to 9223372036854775807",
        "With the questionID, the seed of each question's own draws.",
        ge=0,
        le=2**63 - 1,
    )

    # Retrieval
    rag_knowledge_base_dir: _Path = _setting(
        PROJECT_DIR / "kb", "a folder", "Where knowledge bases lie (see knowledge.md)."
    )
    rag_top_k: int = _setting(
        3,
        "1 to 100",
        "From so many passages of a base are sentences shown with a question.",
        ge=1,
        le=100,
    )
    rag_enabled_subjects: Annotated[dict[str, _Use], NoDecode, BeforeValidator(_from_json)] = (
        _setting(
            {},
            'a JSON dict such as {"geography": true, "history": "always"}',
            "Subjects that use knowledge: `true` where calibration found that it helps,"
            ' `"always"` for every question.',
            max_length=1000,
        )
    )

    # Tools
    algebra_tool: Literal["off", "exact", "program"] = _setting(
        "exact",
        "off, exact or program",
        "`exact` computes exercises in algebra that it surely understands (with sympy), and"
        " leaves all others to the model; `program` asks the model for a calculation there first"
        " and computes it.",
    )

    # Answers of before
    answer_cache: _Path | None = _setting(
        None,
        "a file",
        "Keep completions in this file (SQLite) and give them again where the same is asked of the"
        " same files with the same settings.",
    )
    answer_cache_mb: float = _setting(
        256.0, "1 to 65536", "How large it may grow; the least used go first.", ge=1, le=65536
    )

    # The rest
    offline_guard: Literal["on", "process", "off"] = _setting(
        "on",
        "on, process or off",
        "`on` blocks connections made by this project and the Hugging Face libraries,"
        " `process` all of this process, `off` none.",
    )

    # Adapters; `load` adds the setting of each declared subject
    peft_adapter_path: _Path | None = _setting(
        None, _ADAPTER, "LoRA adapter for every subject that has none of its own."
    )
    adapters_base_dir: _Path | None = _setting(
        None, "a folder", "Where adapters named `*-lora-<subject>` are looked for."
    )

    @staticmethod
    def load(**overrides: Any) -> Settings:
        """Settings from the environment; keyword arguments (lower case) win.

        Raises:
            SetupError: names each wrong setting, its value and what is allowed; or the file of
                subjects is wrong.
        """
        kind = _with_adapters(declared_subjects(**overrides))
        for name in sorted(map(str.upper, os.environ)):
            if name.startswith("PEFT_ADAPTER_") and name.lower() not in kind.model_fields:
                log.warning("%s is set, but %s declares no such subject", name, kind.subjects.file)
        try:
            return kind(**overrides)
        except ValidationError as error:
            raise SetupError(_explain(error, kind)) from None

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is none that pickle could import: it is made where the settings arrive.
        return _restored, (self.subjects, self.model_dump())

    def with_subjects(self, subjects: Subjects) -> Settings:
        """The same settings for subjects that are declared otherwise, with the same adapters."""
        return _restored(subjects, self.model_dump())

    def adapter_of(self, subject: str) -> Path | None:
        """The value of the setting for a subject's adapter."""
        path: Path | None = getattr(self, self.subjects[subject].setting.lower())
        return path

    @property
    def longest_answer(self) -> int:
        """Most new tokens of a usual answer, with the multiplier applied."""
        return self.longest_answer_of(None)

    def longest_answer_of(self, subject: str | None) -> int:
        """Most new tokens of an answer to a subject's question; None is of no subject."""
        length = self.subjects[subject].length if subject else 1.0
        return ceil(self.max_new_tokens * self.max_tokens_multiplier * length)


@lru_cache(maxsize=16)
def _with_adapters(subjects: Subjects) -> type[Settings]:
    """The settings, with one for the adapter of each subject. Raises SetupError."""
    fields: dict[str, Any] = {}
    for subject in subjects.values():
        name = subject.setting.lower()
        if name in Settings.model_fields:
            raise SetupError(
                f"SUBJECTS_FILE={subjects.file}: [{subject.name}] setting: {subject.setting} is"
                " another setting; give it one of its own:"
                f' setting = "PEFT_ADAPTER_OF_{subject.name.upper()}"'
            )
        fields[name] = (_Path | None, _setting(None, _ADAPTER, f"Adapter for {subject.name}."))
    kind = create_model("Settings", __base__=Settings, __module__=__name__, **fields)
    kind.subjects = subjects
    return kind


def _restored(subjects: Subjects, values: dict[str, Any]) -> Settings:
    return _with_adapters(subjects)(**values)


def _explain(error: ValidationError, kind: type[BaseSettings]) -> str:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0])
        field = kind.model_fields.get(name)
        if field is None:
            lines.append(f"{name.upper()[:80]}: there is no such setting")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        item = "".join(f"[{_quoted(key)}]" for key in problem["loc"][1:])
        lines.append(
            f"{name.upper()}{item}={_quoted(problem['input'])} is not allowed: {_allowed(field)}."
            f" ({message})"
        )
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    """A wrong value as Python writes it, shortened."""
    try:
        text = repr(value)
    except Exception:  # a number of 5,000 digits, a list nested 1,000 deep, ...
        return f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= 100 else f"{text[:60]}...{text[-20:]}"


def _allowed(field: Any) -> str:
    return str(field.json_schema_extra["allowed"])


@dataclass(frozen=True)
class Setting:
    """A row of the table: everything as text."""

    name: str
    default: str
    allowed: str
    meaning: str


def all_settings(subjects: Subjects | None = None) -> list[Setting]:
    """All settings, with the adapters of some subjects (ours by default), in the order above."""
    kind = _with_adapters(subjects or Subjects.load())
    return [
        Setting(name.upper(), show(field.default), _allowed(field), str(field.description))
        for name, field in kind.model_fields.items()
    ]


def show(value: Any) -> str:
    """A setting's value as one would write it in the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (dict, tuple)):
        return json.dumps(value)
    if isinstance(value, Path) and value.is_relative_to(PROJECT_DIR):
        return str(value.relative_to(PROJECT_DIR))
    return str(value)


def markdown_table() -> str:
    """The table of settings as docs/settings.md has it."""
    rows = ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for setting in all_settings():
        default = f"`{setting.default}`" if setting.default else "not set"
        rows.append(f"| `{setting.name}` | {default} | {setting.allowed} | {setting.meaning} |")
    return "\n".join(rows)
