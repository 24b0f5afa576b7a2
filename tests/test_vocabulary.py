"""Tokenizers and chat templates in GGUF files are those of transformers."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from convert.errors import ConvertError
from convert.sources import open_source
from convert.writing import write_model
from runtime.common.files import read_json
from runtime.engine.model import Model
from tests.checkpoints import (
    CHAT_TEMPLATE,
    refused,
    rewrite_json,
    save_checkpoint,
    tiny_sentencepiece,
    tiny_tokenizer,
)

TEXTS = [
    "The capital of France is Paris.",
    "中国的首都是哪里？北京！",
    "emoji 🦙🚀 and 👩‍👩‍👧",
    "spaces   here \t and\n\n\nthere  ",
    "digits 1234567890 3.14 １２３",
    "it's DON'T we'll",
    "<|im_start|>user\nhi<|im_end|>\n",
    "naïve café Ωmega нещо",
]


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
def test_text_has_the_same_tokens(
    tmp_path: Path, tokenizer: Any, checkpoints: dict[str, Path], kind: str
) -> None:
    write_model(open_source(checkpoints[kind]), tmp_path / "out.gguf", "F16")
    model = Model(tmp_path / "out.gguf")
    for text in TEXTS:
        assert model.tokenize(text, special=True) == tokenizer.encode(text), text
    assert model.metadata("tokenizer.chat_template") == tokenizer.chat_template
    assert model.end_tokens.tolist() == sorted(
        tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    )
    model.close()


OTHER = CHAT_TEMPLATE.replace("user", "other").replace("<|im_end|>", "<|im_end|> ")
NAMED = [{"name": "default", "template": OTHER}, {"name": "tools", "template": "x"}]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"chat_template.jinja": OTHER}, OTHER),
        ({"chat_template.jinja": OTHER, "tokenizer_config.json": CHAT_TEMPLATE}, OTHER),
        ({"chat_template.jinja": OTHER, "tokenizer_config.json": None}, OTHER),
        ({"tokenizer_config.json": OTHER}, OTHER),
        ({"tokenizer_config.json": NAMED}, OTHER),
        ({"chat_template.jinja": OTHER, "additional_chat_templates/tools.jinja": "x"}, OTHER),
    ],
    ids=["jinja", "jinja first", "jinja beside null", "config", "named in config", "additional"],
)
def test_the_chat_template_is_transformers_wherever_it_lies(
    tmp_path: Path, checkpoints: dict[str, Path], files: dict[str, Any], expected: str
) -> None:
    folder = place_template(shutil.copytree(checkpoints["qwen3"], tmp_path / "c"), files)
    read = AutoTokenizer.from_pretrained(folder).chat_template
    assert (read if isinstance(read, str) else read["default"]) == expected
    assert template_of(folder) == expected


def test_a_chat_template_in_the_processors_place_is_found(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    folder = shutil.copytree(checkpoints["qwen3"], tmp_path / "c")
    place_template(folder, {})
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": OTHER}))
    assert template_of(folder) == OTHER


def test_the_configuration_of_a_tokenizer_is_read_once(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(checkpoints["llama"], tmp_path / "c")
    place_template(folder, {"tokenizer_config.json": OTHER})
    read: list[str] = []
    monkeypatch.setattr(
        "convert.tokenizer.read_json", lambda path: read.append(path.name) or read_json(path)
    )
    assert template_of(folder) == OTHER
    assert read.count("tokenizer_config.json") == 1


def place_template(folder: Path, files: dict[str, Any]) -> Path:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    for name, template in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if name.endswith(".json"):
            rewrite_json(folder / name, chat_template=template)
        else:
            (folder / name).write_text(template)
    return folder


def template_of(folder: Path) -> str | None:
    write_model(open_source(folder), folder / "out.gguf", "F16")
    field = gguf.GGUFReader(folder / "out.gguf").fields["tokenizer.chat_template"]
    return str(field.contents())


@pytest.mark.parametrize("split", ["gpt-2", "smollm", "llama-bpe", "dbrx", "tekken", "gpt-4o"])
def test_text_has_the_same_tokens_however_words_are_split(tmp_path: Path, split: str) -> None:
    tokenizer = tiny_tokenizer(split)
    folder = save_checkpoint(tmp_path / "c", "llama", tokenizer)
    write_model(open_source(folder), tmp_path / "out.gguf", "F16")
    model = Model(tmp_path / "out.gguf")
    assert model.metadata("tokenizer.ggml.pre") == split
    for text in TEXTS:
        assert model.tokenize(text, special=True) == tokenizer.encode(text), text
    model.close()


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_text_has_the_same_tokens_where_some_were_added(
    tmp_path: Path, special: bool, normalized: bool
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    texts = ("<custom>", "[[INST]]", "<|tool|>")
    added = [AddedToken(text, special=special, normalized=normalized) for text in texts]
    tokenizer.add_tokens(added, special_tokens=special)
    write_model(
        open_source(save_checkpoint(tmp_path / "c", "qwen3", tokenizer)), tmp_path / "o.gguf", "F16"
    )
    model = Model(tmp_path / "o.gguf")
    for text in ("a <custom> b", "x<custom>y", "q[[INST]] [[INST]]é", "<|im_start|> <|tool|>hi"):
        assert model.tokenize(text, special=True) == tokenizer.encode(text), text
    model.close()


def test_an_added_token_that_takes_spaces_away_is_remarked_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens([AddedToken("<x>", lstrip=True)])
    folder = save_checkpoint(tmp_path / "c", "qwen3", tokenizer)
    write_model(open_source(folder), tmp_path / "o.gguf", "F16")
    assert "token '<x>' removes spaces beside it" in caplog.text


def test_text_has_the_same_tokens_with_byte_fallback(tmp_path: Path) -> None:
    tokenizer = tiny_sentencepiece()
    folder = save_checkpoint(tmp_path / "c", "llama", tokenizer)
    write_model(open_source(folder), tmp_path / "out.gguf", "F16")
    model = Model(tmp_path / "out.gguf")
    for text in TEXTS:
        whole = tokenizer.encode(text, add_special_tokens=False)
        assert model.tokenize(text) == whole, text
        # In pieces, as a prompt is made, no space comes between.
        pieces = model.tokenize(text[:10]) + model.tokenize("\n" + text[10:], follows=True)
        assert pieces == tokenizer.encode(f"{text[:10]}\n{text[10:]}", add_special_tokens=False)
    long = "the capital of France " * 500
    assert model.tokenize(long) == tokenizer.encode(long, add_special_tokens=False)
    model.close()


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_ends_that_only_generation_config_names_end_answers(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer() if kind == "qwen3" else tiny_sentencepiece())
    tokenizer.add_tokens(["<turn>", "<stop>", "<more>"], special_tokens=True)
    folder = save_checkpoint(tmp_path / "c", kind, tokenizer)
    turn, stop, more = tokenizer.convert_tokens_to_ids(["<turn>", "<stop>", "<more>"])
    path = folder / "generation_config.json"
    for ends in (turn, [tokenizer.eos_token_id, turn], [turn, stop, turn]):
        rewrite_json(path, eos_token_id=ends)
        write_model(open_source(folder), tmp_path / "o.gguf", "F16")
        model = Model(tmp_path / "o.gguf")
        named = {ends} if isinstance(ends, int) else set(ends)
        for token in (tokenizer.eos_token_id, turn, stop, more):
            assert model.is_end(token) == (token in named or token == tokenizer.eos_token_id)
        model.close()
    ordinary = tokenizer.encode("e", add_special_tokens=False)[-1]
    rewrite_json(path, eos_token_id=[turn, ordinary])
    caplog.clear()
    write_model(open_source(folder), tmp_path / "o.gguf", "F16")
    model = Model(tmp_path / "o.gguf")
    assert model.is_end(turn)
    assert not model.is_end(ordinary)
    model.close()
    assert f"eos_token_id {ordinary} is " in caplog.text
    assert "an ordinary token; it does not end answers" in caplog.text
    for ends, problem in (
        ([turn, stop, more], "has 3 tokens that are not end tokens of the tokenizer"),
        ("<turn>", "eos_token_id is ['<turn>'], not ids of tokens"),
        (10**6, "eos_token_id 1000000: there is no such token"),
    ):
        rewrite_json(path, eos_token_id=ends)
        assert problem in refused(folder)


def test_a_tokenizer_that_names_no_end_is_refused(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    folder = shutil.copytree(checkpoints["qwen3"], tmp_path / "c")
    rewrite_json(folder / "tokenizer_config.json", eos_token=None)
    assert "tokenizer_config.json: it names no eos_token" in refused(folder)


def test_a_tokenizer_that_splits_in_another_way_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    folder = save_checkpoint(tmp_path / "c", "qwen3", tokenizer)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace("{N}", "{N}+"), "utf-8")
    with pytest.raises(ConvertError, match="splits text in a way that is not supported"):
        write_model(open_source(folder), tmp_path / "out.gguf", "F16")
    assert not (tmp_path / "out.gguf").exists()
