"""Subjects are declared in a file: ours by default, a team's own in place of them."""

from __future__ import annotations

import importlib
import json
import logging
import pickle
from pathlib import Path

import pytest

from convert.export_gguf import main as export
from evaluation import questions
from evaluation.judges import judge
from evaluation.records import Item
from runtime import Settings, SetupError, loadPipeline
from runtime.__main__ import main as answer
from runtime.files.routes import describe, plan_routes
from runtime.settings import all_settings, declared_subjects
from runtime.subjects import DEFAULT_FILE, Subjects
from tests.checkpoints import save_checkpoint, save_lora, tiny_tokenizer
from tests.conftest import small_settings
from tests.ggufs import write_adapter
from training.finetune import main as finetune

OURS = Subjects.load()

PHYSICS = """
[physics]
names = ["phys", "natural science", "物理"]
instruction = "You know physics. Answer with a value and its unit."
judge = "math"
"""


def declare(folder: Path, text: str) -> Path:
    file = folder / "subjects.toml"
    file.write_text(text, "utf-8")
    return file


@pytest.fixture
def sixth(tmp_path: Path) -> Path:
    """A file with our five subjects and physics."""
    return declare(tmp_path, DEFAULT_FILE.read_text("utf-8") + PHYSICS)


# --- names -----------------------------------------------------------------------------


@pytest.mark.parametrize("subject", OURS)
def test_a_subject_is_matched_without_regard_to_case_and_space(subject: str) -> None:
    for name in (
        subject,
        subject.upper(),
        f"  {subject.title()}\n",
        f"{subject[:3]} {subject[3:]}",
    ):
        assert OURS.of(name).name == subject


@pytest.mark.parametrize(
    ("alias", "subject"),
    [
        ("Maths", "algebra"),
        ("mathematics", "algebra"),
        ("代数", "algebra"),
        ("Geo", "geography"),
        ("历史", "history"),
        ("中文", "chinese"),
        ("Ｃｈｉｎｅｓｅ", "chinese"),
        ("Chinese-Literature", "chinese"),
        ("general knowledge", "general"),
    ],
)
def test_aliases(alias: str, subject: str) -> None:
    assert OURS.of(alias).name == subject


@pytest.mark.parametrize("name", ["", " ", "astrology", "🌍", "null"])
def test_what_is_unknown_goes_to_the_fallback(name: str) -> None:
    assert OURS.of(name).name == OURS.fallback == "general"


# --- a file that is wrong --------------------------------------------------------------

LAW = '[law]\ninstruction = "x"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fallback = law", r"not valid TOML in UTF-8 \(Invalid value \(at line 1"),
        ('fallback = "law"\n[law]\n[law]', r"not valid TOML .*at line 3"),
        ("", 'fallback must name the subject .*: fallback = "general"'),
        (LAW, 'fallback must name the subject .*, at the top of the file: fallback = "law"'),
        (f'fallback = "general"\n{LAW}', "fallback must name the subject"),
        (f"fallback = 3\n{LAW}", "fallback must name the subject"),
        (f'fallback = "law"\ninstruction = "x"\n{LAW}', "instruction is not a table: a subject is"),
        ('fallback = "law"\n[law]', r"\[law\] instruction: must be a text"),
        ('fallback = "law"\n[law]\ninstruction = " "', r"\[law\] instruction: must be a text"),
        ('fallback = "law"\n[law]\ninstruction = 3', r"\[law\] instruction: must be a text"),
        ('fallback = "Law"\n[Law]\ninstruction = "x"', r"\[Law\]: .* made of a-z, 0-9 and _"),
        ('fallback = "law"\n["la/w"]\ninstruction = "x"', r"\[la/w\]: .* made of a-z, 0-9 and _"),
        (
            f'{LAW}alias = ["x"]',
            r"\[law\] alias: no such key; there are instruction, names, setting",
        ),
        (f'{LAW}names = "jus"', r"\[law\] names: must be a list of texts"),
        (f'{LAW}names = ["jus", 3]', r"\[law\] names: must be a list of texts"),
        (f'{LAW}names = ["⚖"]', r"\[law\] names: .* with a letter or digit in each"),
        (f'{LAW}setting = "peft adapter"', r"\[law\] setting: must be made of A-Z, 0-9 and _"),
        (f'{LAW}setting = "LAW_LORA"\nknob = "LAW"', r"\[law\] knob: the old name of setting"),
        (f'{LAW}tool = "sympy"', r"\[law\] tool: must be one of algebra"),
        (f'{LAW}tool = ["algebra"]', r"\[law\] tool: must be one of algebra"),
        (f"{LAW}length = 0", r"\[law\] length: must be a number over 0, at most 16"),
        (f"{LAW}length = 17", r"\[law\] length: must be a number over 0, at most 16"),
        (f"{LAW}length = nan", r"\[law\] length: must be a number over 0, at most 16"),
        (f"{LAW}length = true", r"\[law\] length: must be a number over 0, at most 16"),
        (f'{LAW}length = "long"', r"\[law\] length: must be a number over 0, at most 16"),
        (f'{LAW}judge = "strict"', r"\[law\] judge: must be one of facts, math, chinese"),
        (
            f'{LAW}names = ["Rights"]\n[rights]\ninstruction = "y"',
            r"\[rights\] names: 'rights' is also a name of \[law\]",
        ),
        (
            f'{LAW}[tax]\ninstruction = "y"\nsetting = "PEFT_ADAPTER_LAW"',
            r"\[tax\] setting: PEFT_ADAPTER_LAW is also the setting of \[law\]",
        ),
    ],
)
def test_a_wrong_file_is_named_with_table_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = declare(tmp_path, text)
    with pytest.raises(SetupError, match=f"^SUBJECTS_FILE={file}: {message}"):
        declared_subjects(subjects_file=file)


@pytest.mark.parametrize(
    ("subject", "setting"), [("path", "PEFT_ADAPTER_PATH"), ('law]\nsetting = "TOP_K"\n#', "TOP_K")]
)
def test_a_subject_cannot_take_a_setting_that_is_another(
    tmp_path: Path, subject: str, setting: str
) -> None:
    name = subject.partition("]")[0]
    text = f'fallback = "{name}"\n[{subject}]\ninstruction = "x"\n'
    wrong = rf"\[{name}\] setting: {setting} is another setting; give it"
    with pytest.raises(SetupError, match=wrong):
        Settings.load(subjects_file=declare(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^SUBJECTS_FILE=.*none.toml: cannot be read \(No such"):
        Settings.load(subjects_file=tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes("fallback = 'é'".encode("latin-1"))
    with pytest.raises(SetupError, match=r"latin.toml: not valid TOML in UTF-8"):
        Settings.load(subjects_file=tmp_path / "latin.toml")
    (tmp_path / "16.toml").write_bytes("fallback = 'law'".encode("utf-16"))
    with pytest.raises(SetupError, match=r"16.toml: not valid TOML .*but UTF-16.* iconv"):
        Settings.load(subjects_file=tmp_path / "16.toml")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(tmp_path: Path, ends: str) -> None:
    text = 'fallback = "law"\n[law]\ninstruction = """x\ny"""\n'.replace("\n", ends)
    (tmp_path / "s.toml").write_bytes(text.encode("utf-8-sig"))
    subjects = Settings.load(subjects_file=tmp_path / "s.toml").subjects
    assert subjects["law"].instruction == "x\ny"


def test_the_commands_say_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUBJECTS_FILE", str(tmp_path / "none.toml"))
    commands = (
        (answer, ["--show-settings"]),
        (finetune, ["--model", "demo"]),
        (export, ["--base", "demo"]),
    )
    for main, arguments in commands:
        assert main(arguments) == 1
        assert f"error: SUBJECTS_FILE={tmp_path}/none.toml" in capsys.readouterr().err


# --- a sixth subject, without touching code --------------------------------------------


def test_its_adapter_has_a_setting(
    sixth: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUBJECTS_FILE", str(sixth))
    monkeypatch.setenv("PEFT_ADAPTER_PHYSICS", "a.gguf")
    settings = Settings.load()
    assert settings.peft_adapters["physics"] == Path("a.gguf")
    assert Settings.load(peft_adapter_physics="b.gguf").peft_adapters["physics"] == Path("b.gguf")
    assert {k.name for k in all_settings(settings.subjects)} - {k.name for k in all_settings()} == {
        "PEFT_ADAPTER_PHYSICS"
    }
    assert answer(["--show-settings"]) == 0
    assert (
        "* PEFT_ADAPTER_PHYSICS=a.gguf\n      LoRA adapter for physics." in capsys.readouterr().out
    )
    monkeypatch.setenv("PEFT_ADAPTER_PHYSICS", "a" * 5000)
    with pytest.raises(SetupError, match=r"^PEFT_ADAPTER_PHYSICS=.* is not allowed"):
        Settings.load()


def test_its_setting_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    text = DEFAULT_FILE.read_text("utf-8") + PHYSICS + 'setting = "PHYSICS_LORA"\n'
    settings = Settings.load(subjects_file=declare(tmp_path, text), physics_lora="a.gguf")
    assert settings.peft_adapters["physics"] == Path("a.gguf")
    with pytest.raises(SetupError, match="PEFT_ADAPTER_PHYSICS: there is no such setting"):
        Settings.load(subjects_file=tmp_path / "subjects.toml", peft_adapter_physics="a.gguf")


def test_the_old_name_of_that_key_still_works(tmp_path: Path) -> None:
    text = DEFAULT_FILE.read_text("utf-8") + PHYSICS + 'knob = "PHYSICS_LORA"\n'
    settings = Settings.load(subjects_file=declare(tmp_path, text), physics_lora="a.gguf")
    assert settings.peft_adapters["physics"] == Path("a.gguf")


def test_a_setting_of_a_subject_that_is_not_declared_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PEFT_ADAPTER_PHYSICS", "a.gguf")
    with caplog.at_level(logging.WARNING):
        Settings.load()
    assert "PEFT_ADAPTER_PHYSICS is set, but" in caplog.text
    assert "declares no such subject" in caplog.text


def test_settings_can_be_sent_to_another_process(sixth: Path) -> None:
    settings = Settings.load(subjects_file=sixth, peft_adapter_physics="a.gguf", top_k=3)
    sent = pickle.loads(pickle.dumps(settings))
    assert sent == settings
    assert sent.subjects == settings.subjects


def test_it_is_asked_in_its_own_words_with_its_own_adapter(
    sixth: Path, tmp_path: Path, demo_model: Path
) -> None:
    asked = [
        {"questionID": subject, "subject": subject, "question": "Why does a stone fall?"}
        for subject in ("Natural Science", "物理", "history", "astrology")
    ]
    write_adapter(tmp_path / "zero.gguf", scale=0.0)
    write_adapter(tmp_path / "demo-lora-physics.gguf", scale=4.0)
    with loadPipeline(
        small_settings(
            subjects_file=sixth, max_new_tokens=4, peft_adapter_physics=tmp_path / "zero.gguf"
        )
    ) as pipeline:
        plain = pipeline(asked)
        (engine,) = pipeline.engines.values()
        head = b"".join(map(engine.model.piece, pipeline.way.frames["physics"].head)).decode()
    assert "You know physics. Answer with a value and its unit." in head
    with loadPipeline(
        small_settings(subjects_file=sixth, max_new_tokens=4, adapters_base_dir=tmp_path)
    ) as pipeline:
        adapted = pipeline(asked)
    changed = [a["questionID"] for a, b in zip(plain, adapted, strict=True) if a != b]
    assert changed == ["Natural Science", "物理"]


def test_it_is_trained_exported_and_routed(
    sixth: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SUBJECTS_FILE", str(sixth))
    base = save_checkpoint(tmp_path / "tiny-chat", "qwen3", tiny_tokenizer())
    corpus = tmp_path / "physics.jsonl"
    records = [{"question": f"How far are {n} m?", "answer": f"{n} m"} for n in range(8)]
    corpus.write_text("\n".join(map(json.dumps, records)), "utf-8")
    loras, models = tmp_path / "loras", tmp_path / "models"
    command = ["--model", base, "--data_physics", corpus, "--out", loras, "--epochs", "1"]
    assert finetune(list(map(str, command))) == 0
    assert (loras / "tiny-chat-lora-physics" / "adapter_config.json").is_file()
    save_lora(loras / "tiny-chat-lora-law", base)  # declared nowhere
    command = ["--base", base, "--loras", loras, "--output", models, "--type", "Q4_0"]
    assert export(list(map(str, command))) == 0
    assert {path.name for path in models.glob("*.gguf")} == {"tiny-chat-physics-Q4_0.gguf"}
    assert "need one for general, or the bare base" in capsys.readouterr().out
    command = ["--base", base, "--output", models, "--type", "Q4_0"]
    assert export(list(map(str, command))) == 0
    routes = plan_routes(Settings.load(model_name="me/tiny-chat", models_dir=models))
    assert routes["physics"].model.name == "tiny-chat-physics-Q4_0.gguf"
    assert {routes[subject].model.name for subject in OURS} == {"tiny-chat-Q4_0.gguf"}
    assert "physics   → tiny-chat-physics-Q4_0.gguf" in describe(routes)


def test_exporting_for_a_subject_that_is_not_declared_names_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export(["--base", "demo", "--lora", "x", "--subject", "physics"]) == 1
    assert f"--subject physics: no such subject in {DEFAULT_FILE}, which declares algebra, geo" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "command",
    [
        "runtime --input questions.jsonl",
        "runtime.tune",
        "evaluation --questions questions.jsonl",
        "convert.export_gguf --base demo",
        "training.finetune --model demo --out loras",
        "kb.preprocess --subject history --input raw.jsonl",
        "kb.calibrate --subject history --questions questions.jsonl",
    ],
)
def test_every_command_names_a_file_of_subjects_that_is_broken(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "subjects.toml").write_text("[history")
    (tmp_path / "questions.jsonl").write_text('{"questionID": 1, "question": "When?"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBJECTS_FILE", "subjects.toml")
    name, *arguments = command.split()
    module = importlib.import_module(f"{name}{'' if '.' in name else '.__main__'}")
    assert module.main(arguments) == 1
    said = capsys.readouterr().err
    assert "SUBJECTS_FILE=" in said
    assert "subjects.toml: not valid TOML" in said


def test_it_is_evaluated_apart_and_by_its_own_judge(
    sixth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"questionID": 1, "subject": "Phys", "question": "How far?", "answer": "0.5"}
    (tmp_path / "q.jsonl").write_text(json.dumps(record), "utf-8")
    (plain,) = questions.read(tmp_path / "q.jsonl").items
    monkeypatch.setenv("SUBJECTS_FILE", str(sixth))
    (item,) = questions.read(tmp_path / "q.jsonl").items
    assert plain
    assert item
    assert (plain.subject, item.subject) == ("general", "physics")
    assert not judge(plain, "It is 1/2.").correct  # as a fact
    assert judge(item, "It is 1/2.").correct
    assert judge(item, "It is 1/2.") == judge(Item(1, "algebra", "?", ("0.5",)), "It is 1/2.")


@pytest.mark.parametrize("tool", ["", 'tool = "algebra"'])
def test_what_it_can_compute_is_computed(tmp_path: Path, demo_model: Path, tool: str) -> None:
    pytest.importorskip("sympy")
    text = f'fallback = "physics"\n{PHYSICS}{tool}\n'
    question = {"questionID": 1, "subject": "physics", "question": "Solve for x: 2x + 6 = 14."}
    settings = small_settings(subjects_file=declare(tmp_path, text), algebra_tool="exact")
    with loadPipeline(settings) as pipeline:
        (answered,) = pipeline([question])
        assert (answered["answer"] == "2x = 8, so x = 4.") == bool(tool)
        assert (pipeline.stats.new_tokens == 0) == bool(tool)


# --- others in place of ours -----------------------------------------------------------


def test_a_team_with_physics_and_law_has_no_others(tmp_path: Path) -> None:
    text = f'fallback = "law"\n{PHYSICS}\n{LAW}'
    (tmp_path / "m.gguf").touch()
    settings = Settings.load(
        subjects_file=declare(tmp_path, text),
        model_name=str(tmp_path / "m.gguf"),
        models_dir=tmp_path,
        peft_adapter_law=write_adapter(tmp_path / "law.gguf"),
    )
    assert list(settings.subjects) == ["physics", "law"]
    assert settings.subjects.of("history").name == "law"
    routes = plan_routes(settings)
    # What has nothing of its own is served as the fallback is.
    assert {s: r.adapter and r.adapter.name for s, r in routes.items()} == {
        "physics": "law.gguf",
        "law": "law.gguf",
    }
    with pytest.raises(SetupError, match="PEFT_ADAPTER_HISTORY: there is no such setting"):
        Settings.load(subjects_file=tmp_path / "subjects.toml", peft_adapter_history="a.gguf")
