"""Converts a Hugging Face tokenizer to GGUF metadata."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from convert.errors import ConvertError
from runtime.common.files import read_json, read_text

log = logging.getLogger(__name__)

# llama.cpp has a name for each way of splitting words. These are the patterns of the supported
# models, put together from their parts.
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
_REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
_UPPER, _LOWER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}", "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
_WORDS = (
    f"[^\\r\\n\\p{{L}}\\p{{N}}]?[{_UPPER}]*[{_LOWER}]+%s"
    f"|[^\\r\\n\\p{{L}}\\p{{N}}]?[{_UPPER}]+[{_LOWER}]*%s|"
)
_CONTRACTION = _CONTRACTIONS.split("|[^")[0] + "?"
_REST_WITH_SLASH = _REST.replace("[\\r\\n]*", "[\\r\\n/]*")
# By the pattern, and by whether a word that is a token skips the merges (ignore_merges); None is
# for both.
_SPLITS: dict[tuple[str, bool | None], str] = {
    (_CONTRACTIONS + "\\p{N}" + _REST, None): "qwen2",
    (_CONTRACTIONS + "\\p{N}{1,3}" + _REST, True): "llama-bpe",
    (_CONTRACTIONS + "\\p{N}{1,3}" + _REST, False): "dbrx",
    (_WORDS % ("", "") + "\\p{N}" + _REST_WITH_SLASH, True): "tekken",
    (_WORDS % (_CONTRACTION, _CONTRACTION) + "\\p{N}{1,3}" + _REST_WITH_SLASH, None): "gpt-4o",
}
# llama.cpp adds a begin token to their texts unless the file says otherwise.
_BEGINS = ("llama-bpe", "tekken")
# Added tokens that are control tokens although they are not marked as special.
_CONTROL_ENDS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
_CONTROL_TEXTS = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
# The size of Granite's and SmolLM's vocabularies; their tokenizers never add a begin token.
_NO_BOS_VOCAB_SIZE = 49152


def add_tokenizer(
    writer: gguf.GGUFWriter,
    folder: Path,
    vocab_size: int,
    template: Any,
    config: Mapping[str, Any] | None,
) -> None:
    """Write tokens, their types, merges, special tokens and chat template.

    Args:
        writer: the GGUF file.
        folder: of the checkpoint.
        vocab_size: rows of the embedding; the vocabulary is padded to this size.
        template: see `chat_template`.
        config: tokenizer_config.json, to write whether it adds a space before a text, as
            llama.cpp's converter does for some architectures; None for the others.

    Raises:
        ConvertError: no tokenizer, or one that llama.cpp does not support.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConvertError(
            f"{path}: no such file; load the tokenizer with transformers and save it"
        )
    try:
        description = read_json(path)
        byte_fallback = bool(description["model"].get("byte_fallback"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConvertError(f"{path}: not a tokenizer ({error})") from None
    add = _add_sentencepiece if byte_fallback else _add_byte_level
    try:
        special = add(writer, folder, vocab_size, description)
        special.chat_template = template
        special.add_to_gguf(writer, quiet=True)
    except ConvertError:
        raise
    except Exception as error:  # transformers and gguf raise many kinds of errors
        problem = f"{type(error).__name__}: {error}"
        raise ConvertError(f"{folder}: the tokenizer cannot be read ({problem})") from None
    prefix = config.get("add_prefix_space") if config is not None else None
    if prefix is None and byte_fallback and not _prepends_space(description):
        prefix = False  # llama.cpp's default is True
    if prefix is not None:
        writer.add_add_space_prefix(bool(prefix))
    if config is not None and vocab_size == _NO_BOS_VOCAB_SIZE:
        writer.add_add_bos_token(False)


def _add_byte_level(
    writer: gguf.GGUFWriter, folder: Path, vocab_size: int, description: dict[str, Any]
) -> gguf.SpecialVocab:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    by_id = {id_: text for text, id_ in tokenizer.get_vocab().items()}
    if max(by_id) >= vocab_size:
        raise ConvertError(
            f"{folder}: token {by_id[max(by_id)]!r} has id {max(by_id)}, but the model has only"
            f" {vocab_size} tokens: was the embedding of the base not resized?"
        )
    added = tokenizer.added_tokens_decoder
    texts, types = [], []
    for id_ in range(vocab_size):
        if id_ not in by_id:
            text, type_ = f"[PAD{id_}]", gguf.TokenType.UNUSED
        elif id_ in added:
            text, type_ = _added(tokenizer, by_id[id_], added[id_])
        else:
            text, type_ = by_id[id_], gguf.TokenType.NORMAL
        texts.append(text)
        types.append(type_)
    writer.add_tokenizer_model("gpt2")
    pre = pre_tokenizer_name(folder, description)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(folder, load_merges=True)
    after = description.get("post_processor") or {}
    if any(step.get("type") == "ByteLevel" for step in after.get("processors", [after])):
        for name in ("bos", "eos"):  # such a step adds no tokens
            special.add_special_token.setdefault(name, False)
    if pre in _BEGINS and tokenizer.bos_token_id is not None:
        begins = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        special.add_special_token.setdefault("bos", begins)
    if "eos" not in special.special_token_ids:
        special.special_token_ids["eos"] = _end_token(folder, tokenizer)
    _add_ends(special, folder, texts, types)
    return special


def _end_token(folder: Path, tokenizer: Any) -> int:
    """The id of the token that ends a text; llama.cpp would take 11, whatever that is, if the file
    had none."""
    if tokenizer.eos_token_id is None:
        if ends := _generation_ends(folder):
            return ends[0]
        raise ConvertError(
            f"{folder}/tokenizer_config.json: it names no eos_token, so answers would not end where"
            " they should; save the tokenizer with the one of its base"
        )
    return int(tokenizer.eos_token_id)


# Tokens that llama.cpp recognizes as the end of a turn by their text.
_KNOWN_ENDS = frozenset(
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"]
    + ["<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>"]
)


def _generation_ends(folder: Path) -> list[int]:
    """The ids of end tokens in generation_config.json. Raises ConvertError."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return []
    try:
        ends = read_json(path).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise ConvertError(f"{path}: cannot be read ({error})") from None
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if any(isinstance(end, bool) or not isinstance(end, int) or end < 0 for end in ends):
        raise ConvertError(f"{path}: eos_token_id is {ends!r}, not ids of tokens")
    return ends


def _add_ends(
    special: gguf.SpecialVocab,
    folder: Path,
    texts: Sequence[str],
    types: Sequence[gguf.TokenType],
) -> None:
    """Add end tokens that only generation_config.json names.

    Some trainers change the end of a turn there only; without it no answer would end. A GGUF file
    can have two such tokens beside the end of the text.
    """
    path = folder / "generation_config.json"
    extra: list[int] = []
    for end in _generation_ends(folder):
        if end >= len(texts):
            raise ConvertError(f"{path}: eos_token_id {end}: there is no such token")
        is_known = end == special.special_token_ids.get("eos") or texts[end] in _KNOWN_ENDS
        if types[end] == gguf.TokenType.NORMAL:  # a default of another vocabulary
            log.warning(
                "%s: eos_token_id %d is %r, an ordinary token; it does not end answers",
                path,
                end,
                texts[end],
            )
        elif not is_known and end not in extra:
            extra.append(end)
    places = [name for name in ("eot", "eom") if name not in special.special_token_ids]
    if len(extra) > len(places):
        raise ConvertError(
            f"{path}: eos_token_id has {len(extra)} tokens that are not end tokens of the tokenizer"
            f" ({', '.join(texts[end] for end in extra)}); a GGUF file can have {len(places)} more"
        )
    special.special_token_ids.update(zip(places, extra, strict=False))


def _added_among(text: bytes, special: bool) -> tuple[bytes, gguf.TokenType]:
    """Text and type of an added token whose id is inside the vocabulary, as in Gemma."""
    if special:
        return text, gguf.TokenType.CONTROL
    return text.replace("\u2581".encode(), b" "), gguf.TokenType.USER_DEFINED


def _prepends_space(description: dict[str, Any]) -> bool:
    """Whether a tokenizer.json puts a space before a text (Llama 2 does, Gemma does not)."""
    normalizer = description.get("normalizer") or {}
    pre = description.get("pre_tokenizer") or {}
    steps = [*normalizer.get("normalizers", [normalizer]), *pre.get("pretokenizers", [pre])]
    return any(
        step.get("type") == "Prepend"
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def _added(tokenizer: Any, text: str, token: Any) -> tuple[str, gguf.TokenType]:
    """Text and type of an added token, as llama.cpp will look for it in a prompt."""
    if token.lstrip or token.rstrip:
        log.warning("token %r removes spaces beside it; llama.cpp will keep them", text)
    if not token.normalized:
        text = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
    looks_control = text in _CONTROL_TEXTS or any(
        text.startswith(start) and text.endswith(end) for start, end in _CONTROL_ENDS
    )
    if token.special or looks_control:
        return text, gguf.TokenType.CONTROL
    return text.replace("\u2581", " "), gguf.TokenType.USER_DEFINED


def pre_tokenizer_name(folder: Path, description: dict[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer.json splits text before merging.

    Raises:
        ConvertError: a way of splitting that no supported model has.
    """
    pre = description.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    kinds = [step.get("type") for step in steps]
    byte_level_splits = steps[-1].get("type") == "ByteLevel" and steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and byte_level_splits:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and byte_level_splits:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not byte_level_splits:
        pattern = steps[0]["pattern"].get("Regex", "")
        whole = bool(description["model"].get("ignore_merges"))
        name = _SPLITS.get((pattern, None)) or _SPLITS.get((pattern, whole))
        if name:
            return name
    raise ConvertError(
        f"{folder}/tokenizer.json: it splits text in a way that is not supported:"
        f" {json.dumps(pre)[:300]}"
    )


def _add_sentencepiece(
    writer: gguf.GGUFWriter, folder: Path, vocab_size: int, description: dict[str, Any]
) -> gguf.SpecialVocab:
    """Write a vocabulary of Llama 2's kind, with byte fallback.

    llama.cpp merges the pair whose token has the highest score: the negative rank of the merge.
    """
    scores: dict[str, float] = {}
    for rank, merge in enumerate(description["model"]["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        scores.setdefault(left + right, -float(rank))
    added = {token["id"]: token for token in description.get("added_tokens") or []}
    tokens = []
    for id_, (text, score, type_) in enumerate(gguf.LlamaHfVocab(folder).all_tokens()):
        if (
            id_ in added and type_ == gguf.TokenType.NORMAL
        ):  # gguf only handles ids after the others
            text, type_ = _added_among(text, bool(added[id_].get("special")))
        tokens.append((text, scores.get(text.decode("utf-8"), score), type_))
    tokens += [
        (f"[PAD{id_}]".encode(), -1000.0, gguf.TokenType.UNUSED)
        for id_ in range(len(tokens), vocab_size)
    ]
    texts, values, types = (list(column) for column in zip(*tokens, strict=True))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores(values)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(folder, n_vocab=len(texts))
    decoded = [text.decode("utf-8", "replace") for text in texts]
    _add_ends(special, folder, decoded, types)
    return special


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json of a folder, empty without that file. Raises ConvertError."""
    path = folder / "tokenizer_config.json"
    try:
        config = read_json(path) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise ConvertError(f"{path}: not a JSON object")
    return config


def chat_template(folder: Path, config: Mapping[str, Any] | None = None) -> Any:
    """The chat template of a checkpoint or an adapter.

    transformers saves chat_template.jinja (and further ones in additional_chat_templates) and
    reads it before tokenizer_config.json, the older place. Processors use chat_template.json.

    Args:
        config: its tokenizer_config.json, if that was read before.

    Returns:
        The template; a list of {"name", "template"} if there are several; None without one.

    Raises:
        ConvertError: a file cannot be read.
    """
    default, older = folder / "chat_template.jinja", folder / "chat_template.json"
    try:
        if default.is_file():
            others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
            named = {"default": default} | {path.stem: path for path in others}
            found = [{"name": n, "template": read_text(p)} for n, p in named.items()]
            return found if others else found[0]["template"]
        config = tokenizer_config(folder) if config is None else config
        if template := config.get("chat_template"):
            return template
        return (read_json(older).get("chat_template") or None) if older.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise ConvertError(f"{folder}: its chat template cannot be read ({error})") from None


def added_tokens(folder: Path) -> list[str]:
    """The added tokens of tokenizer.json in a folder; empty without that file."""
    try:
        added = read_json(folder / "tokenizer.json")["added_tokens"]
        return [str(token["content"]) for token in added]
    except (OSError, ValueError, KeyError, TypeError):
        return []
