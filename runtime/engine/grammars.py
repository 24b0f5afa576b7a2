"""Constraints compiled for a model's vocabulary: which tokens may come next. On llguidance.

Whatever a client sends is compiled here, so everything is bounded: the text's length (see
`constraint`), the work of compiling it, and the work and memory of each step. What goes beyond is
a ConstraintError, or ends its own request with an error; no other request waits for it, as long
as `compile` is not called in the thread that runs the engine.
"""

from __future__ import annotations

import ctypes
import json
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llama_cpp as llama
import numpy as np

from runtime.common.constraint import Constraint, ConstraintError

if TYPE_CHECKING:
    from runtime.engine.model import Model

# Compiled constraints kept for each model, the failed ones included.
_MOST_KEPT = 128
# White space that a model may write between two parts of JSON: enough to indent, and no endless
# run of line breaks, which small models fall into.
_SPACE = r"[\x20\x0A\x0D\x09]{1,24}"


@dataclass(eq=False)
class Grammar:
    """A compiled constraint; any number of requests to the model may use it at once.

    `ends` are the end-of-generation tokens, and `prototype` is llguidance's matcher before the
    first token.
    """

    constraint: Constraint
    prototype: Any
    n_vocab: int
    ends: np.ndarray

    def matcher(self) -> Matcher:
        """A matcher for a new answer."""
        return Matcher(self, self.prototype.deep_copy())


class Matcher:
    """How far one answer has come in its grammar."""

    def __init__(self, grammar: Grammar, matcher: Any) -> None:
        self._grammar = grammar
        self._matcher = matcher
        self._bits = np.zeros(-(-grammar.n_vocab // 32), np.uint32)

    @property
    def problem(self) -> str:
        """Why the answer cannot go on, or ""."""
        if not self._matcher.is_error():
            return ""
        kind, error = self._grammar.constraint.kind, _in_short(self._matcher.get_error())
        return f"the {kind} cannot be followed any further ({error})"

    @property
    def ended(self) -> bool:
        """The answer is complete, and nothing can follow."""
        return bool(self._matcher.is_stopped() and not self._matcher.is_error())

    def allowed(self) -> np.ndarray:
        """Which tokens may come next, bool [n_vocab]; none where there is a `problem`."""
        if not self._matcher.is_error():
            self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            return np.zeros(self._grammar.n_vocab, bool)
        n = self._grammar.n_vocab
        return np.unpackbits(self._bits.view(np.uint8), count=n, bitorder="little").view(bool)

    def must_end(self, allowed: np.ndarray) -> bool:
        """Whether nothing but the end may come next, by what `allowed` said."""
        n_ends = np.count_nonzero(allowed[self._grammar.ends])
        return bool(n_ends) and np.count_nonzero(allowed) == n_ends

    def accept(self, token: int) -> None:
        """Go on with a token that was allowed."""
        self._matcher.consume_token(token)

    def forced(self) -> list[int]:
        """The tokens that must come next; `allowed` would name no other for each of them."""
        return list(self._matcher.compute_ff_tokens())


class Grammars:
    """Compiles constraints for one model, and keeps those used last. For any thread.

    The first use reads the vocabulary, which takes a second for 150,000 tokens. The model is not
    kept alive.
    """

    def __init__(self, model: Model) -> None:
        self._model = weakref.ref(model)
        self._tokenizer: Any = None
        self._ends = np.empty(0, np.int64)
        self._kept: OrderedDict[Constraint, Grammar | ConstraintError] = OrderedDict()
        self._kept_lock = threading.Lock()
        self._compiling = threading.Lock()  # one at a time: others' steps need the cores

    def compile(self, constraint: Constraint) -> Grammar:
        """A constraint for requests to this model; quick if it is among the last ones.

        Raises:
            ConstraintError: it is wrong, beyond the limits, or has something that is not supported;
                or llguidance is not installed.
        """
        found = self._find(constraint)
        if found is None:
            with self._compiling:
                found = self._find(constraint) or self._compile(constraint)
                with self._kept_lock:
                    self._kept[constraint] = found
                    if len(self._kept) > _MOST_KEPT:
                        self._kept.popitem(last=False)
        if isinstance(found, ConstraintError):
            raise ConstraintError(str(found))
        return found

    def knows(self, constraint: Constraint) -> bool:
        """Whether `compile` is quick."""
        return self._find(constraint) is not None

    def _find(self, constraint: Constraint) -> Grammar | ConstraintError | None:
        with self._kept_lock:
            found = self._kept.get(constraint)
            if found is not None:
                self._kept.move_to_end(constraint)
            return found

    def _compile(self, constraint: Constraint) -> Grammar | ConstraintError:
        library = _library()
        if self._tokenizer is None:
            model = self._model()
            if model is None or not len(model.end_tokens):
                return ConstraintError("this model's vocabulary has no end-of-generation token")
            self._ends = model.end_tokens
            self._tokenizer = library.LLTokenizer(
                _Vocabulary(model), eos_token=model.end_tokens.tolist()
            )
        try:
            text = _text(constraint)
        except ConstraintError as error:
            return error
        matcher = library.LLMatcher(self._tokenizer, text, log_level=0, limits=_limits())
        if not matcher.is_error():
            matcher.compute_bitmask()  # what the first step needs is known to all copies
        if matcher.is_error():
            return _error(constraint, matcher.get_error())
        return Grammar(constraint, matcher, self._tokenizer.vocab_size, self._ends)


class _Vocabulary:
    """A model's tokens as llguidance reads them (its `TokenizerWrapper`)."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, model: Model) -> None:
        vocab, size = model._vocab, 256
        buffer = ctypes.create_string_buffer(size)
        self.eos_token_id = int(model.end_tokens[0])
        self.tokens: list[bytes] = []
        self.special_token_ids: list[int] = []
        for token in range(model.n_vocab):
            n = llama.llama_token_to_piece(vocab, token, buffer, size, 0, True)
            piece = buffer.raw[:n] if n >= 0 else model.piece(token, special=True)
            kind = llama.llama_vocab_get_attr(vocab, token)
            if kind & llama.LLAMA_TOKEN_ATTR_CONTROL or (
                kind & llama.LLAMA_TOKEN_ATTR_USER_DEFINED and piece[:1] == b"<"
            ):
                self.special_token_ids.append(token)
            self.tokens.append(piece)
        self._model = weakref.ref(model)

    def __call__(self, text: str) -> list[int]:
        """Tokens of a text that the grammar forces."""
        model = self._model()
        return [] if model is None else model.tokenize(text, follows=True)


def check(constraint: Constraint) -> None:
    """Check a constraint without a model.

    Raises:
        ConstraintError: as `Grammars.compile`.
    """
    problem = _library().LLMatcher.validate_grammar(_text(constraint), None, limits=_limits())
    if problem and not problem.startswith("WARNING"):
        raise _error(constraint, problem)


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError:
        raise ConstraintError(
            "constrained answers need llguidance: pip install 'subject-lora-serve[constrain]'"
        ) from None
    return llguidance


def _limits() -> Any:
    """What a grammar may cost. At llguidance's speeds a step takes at most some 10 ms."""
    return _library().LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=100_000,
        step_max_items=50_000,
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def _text(constraint: Constraint) -> str:
    """A constraint in llguidance's own form. Raises ConstraintError."""
    make, text = _library().LLMatcher, constraint.text
    try:
        match constraint.kind:
            case "schema":
                options = {"whitespace_pattern": _SPACE, "lenient": False, "coerce_one_of": False}
                return str(make.grammar_from_json_schema(text, overrides=options))
            case "pattern":
                return str(make.grammar_from_regex(text))
            case "choices":
                listed = (json.dumps(choice, ensure_ascii=False) for choice in json.loads(text))
                return str(make.grammar_from_lark(f"start: CHOICE\nCHOICE: {' | '.join(listed)}"))
            case "grammar":
                from llguidance.gbnf_to_lark import any_to_lark

                return str(make.grammar_from_lark(any_to_lark(text)))
    except Exception as error:  # the converter raises all kinds
        raise _error(constraint, str(error)) from None


def _error(constraint: Constraint, problem: str) -> ConstraintError:
    return ConstraintError(f"the {constraint.kind} cannot be used: {_in_short(problem)}")


def _in_short(message: str) -> str:
    """What a message of llguidance says, without the grammar and the parser's state."""
    first, *rest = message.strip().split("\n")
    if first.startswith("NoExtension"):
        return "no text has this form"
    why = [line for line in rest if line.startswith("error: ")]
    return " ".join([first, *why[:1]])[:500]
