"""Cleaning takes away what is known to be no answer, and leaves everything else to the letter."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.answers import MAX_CHARS, Cleaner, clean

# Right answers, each with a question that it answers.
RIGHT = [
    # names, initials, abbreviations
    ("Who discovered the electron?", "J. J. Thomson discovered the electron."),
    ("Who wrote The Hobbit?", "J. R. R. Tolkien"),
    ("Who wrote Winnie-the-Pooh?", "A. A. Milne"),
    ("Who wrote the poem?", "e. e. cummings"),
    ("Which band?", "The The"),
    ("Which town in Washington?", "Walla Walla"),
    ("Which island?", "Bora Bora"),
    ("Who sang Rio?", "Duran Duran. Duran Duran!"),
    ("Who was U.S. president?", "U. S. Grant, of the U. S. Army."),
    ("Which sentence is eight times one word?", "Buffalo buffalo Buffalo buffalo buffalo."),
    # dates and times
    ("When?", "1. 1. 2002"),
    ("When?", "11. 11. 1911, 11:11:11"),
    ("When did the war end?", "On 11/11/1918."),
    ("Which years?", "1848\n1848\n1849"),
    ("When?", "2020-02-02"),
    # numbers, sequences, arithmetic
    ("Fibonacci?", "1. 1. 2. 3. 5. 8."),
    ("Expand x^5", "x^5 = x * x * x * x * x"),
    ("Factor it.", "(x+1)(x+1)(x+1)(x+1)"),
    ("2 + 2 =", "2 + 2 = 4"),
    ("1 + 1", "1 + 1 = 2"),
    ("Solve it twice.", "x = 2\nx = 2"),
    ("Solve it.", "x = 2\ny = 3\nx = 2"),
    ("What is 5 * 3?", "3 + 3 + 3 + 3 + 3 = 15"),
    ("A googol?", "1" + "0" * 100),
    ("10 to the 1000th?", "1" + "0" * 1000),
    ("1/3?", "0.333333333333333333333333333333333333333333333333333333333333"),
    ("1/11?", "0.0909090909090909090909090909090909090909090909090909"),
    ("In binary?", "1010101010101010"),
    ("Eight bits?", "0000 0000\n0000 0001"),
    ("Toss ten coins.", "H T H T H T H T H T"),
    ("Is 2 even?", "Yes. Yes."),
    ("Long division", "    12\n   ----\n4 ) 48\n    4\n    --\n     8"),
    # matrices and tables
    ("The zero matrix?", "0 0 0\n0 0 0\n0 0 0"),
    ("The identity?", "1 0 0\n0 1 0\n0 0 1"),
    ("A row of zeros?", "[" + ", ".join(["0"] * 100) + "]"),
    ("A matrix?", "  1   0\n  0  10"),
    ("A 16 x 16 zero matrix?", "\n".join(["0 " * 15 + "0"] * 16)),
    ("A table?", "| a | b |\n| --- | --- |\n| 1 | 1 |\n| 1 | 1 |"),
    ("A table?", "name\tage\nAnn\t3\nBob\t3"),
    ("A grid?", "+---+---+---+---+\n|   |   |   |   |\n+---+---+---+---+"),
    ("A rule?", "-" * 80),
    ("A board?", ("# . " * 4 + "\n" + ". # " * 4 + "\n") * 3 + "# . # . # . # ."),
    # chemistry and biology
    ("Pentane?", "CH3-CH2-CH2-CH2-CH3"),
    ("Decane?", "CH3-CH2-CH2-CH2-CH2-CH2-CH2-CH2-CH2-CH3"),
    ("Glucose?", "C6H12O6"),
    ("A repeat?", "CAGCAGCAGCAGCAGCAGCAGCAGCAG"),
    ("The reaction?", "2 H2 + O2 -> 2 H2O"),
    # Chinese
    ("怎么道谢？", "谢谢！谢谢！"),
    ("北京在哪里？", "北京在中国。"),
    ("叠词？", "高高兴兴，干干净净，漂漂亮亮。"),
    ("背一首诗。", "鹅，鹅，鹅，\n曲项向天歌。"),
    ("再说一遍。", "巴黎是首都。巴黎是首都。"),
    ("中国的首都", "中国的首都是北京。"),
    ("笑声？", "哈哈哈哈哈哈"),
    ("问什么？", "问：你是谁？答：我是我。"),
    # verse and lists
    (
        "Sing.",
        "Row, row, row your boat\nGently down the stream\nMerrily, merrily, merrily, merrily",
    ),
    (
        "The poem?",
        "Do not go gentle into that good night,\nOld age should burn.\n\n"
        "Rage, rage against the dying of the light.\n\n"
        "Do not go gentle into that good night.\nRage, rage against the dying of the light.",
    ),
    ("A haiku?", "  old pond\n    a frog leaps in\n  water's sound"),
    ("Three things?", "- one\n- two\n- three"),
    ("Steps?", "1. Do it.\n2. Do it.\n3. Do it."),
    ("Say it ten times.", "\n".join(["I must not talk in class."] * 10)),
    ("Say it twenty times.", "\n".join(["I must not talk in class."] * 20)),
    ("What did he say?", "Words, words, words."),
    # code
    ("A function?", "def f(x):\n    if x:\n        return 1\n    return 2"),
    ("In C?", "int f() {\n    if (1) {\n        return 1;\n    }\n}"),
    ("Only the body?", "    x = 1\n    return x"),
    ("Nested?", "{{{{{{}}}}}}"),
    ("JSON?", '{"a": {"b": {"c": {}}}}'),
    ("A makefile?", "all:\n\tcc a.c\n\tcc b.c"),
    ("Initialize.", "a[0] = 0;\na[1] = 0;\na[2] = 0;"),
    ("Unrolled?", "i++;\ni++;\ni++;\ni++;"),
    ("Fenced?", "```python\nprint(1)\n\n\n\nprint(1)\n```"),
    ("HTML?", "<ul><li>a</li><li>a</li></ul>"),
    ("Strike out?", "Use <s>text</s>"),
    ("What is |x|?", "f(x) = <|x|>"),
    # what looks like tokens and tags
    ("What ends a turn?", "The token <|im_end|> ends a turn."),
    ("What ends a turn?", "<|im_end|>"),
    ("Llama's?", "[INST] and [/INST], <<SYS>> and <</SYS>>, <s> and </s>"),
    ("What does <think> do?", "The tag `<think>` opens the reasoning block."),
    ("What opens the block?", "`<think>` opens it, `</think>` closes it."),
    ("The tags?", "<think>"),
    ("The tags?", "<think> and </think>"),
    ("An example?", "Like this:\n<think>\nhm\n</think>\nParis"),
    ("Shell?", "$ cat <<EOF\nhi\nEOF"),
    # the question's words
    ("The capital of France", "The capital of France is Paris."),
    ("What is the capital of France?", "What is the capital of France? Paris is."),
    ("Paris", "Paris is the capital of France"),
    ("Paris", "Parisians speak French"),
    ("Name the largest planet", "Name the largest planetary system? The Sun's"),
    ("What is it?", "What is it?"),
    ("Which question?", "It was this:\nWhich question?\nNo other."),
    # punctuation, quotes, LaTeX, URLs, markdown, white space
    ("Quote him.", '"To be, or not to be," he said. "To be!"'),
    ("LaTeX?", r"\frac{1}{2} + \frac{1}{2} = 1"),
    ("The sum?", r"$$\sum_{i=1}^{n} i = \frac{n(n+1)}{2}$$"),
    ("Where?", "https://a.example/a/a/a/a?b=b&b=b"),
    ("A path?", "../../../../../../etc"),
    ("Morse for S O S?", "... --- ..."),
    ("A line?", "................................"),
    ("Bold?", "**a** **a** **a**"),
    ("Markdown?", "# A\n\n## B\n\n\n\ntext  \nbroken line"),
    ("Spaces?", "a  b\tc\u3000d"),
    ("An emoji?", "👍👍👍👍👍"),
    ("A cheer?", "Hip hip hooray! Hip hip hooray! Hip hip hooray!"),
    ("What is an answer?", "An answer: what follows a question."),
    ("A label?", "Answer:"),
    ("The unknown character?", "\ufffd is the replacement character."),
    ("A letter?", "a"),
    ("Who?", "assistant\nmanager"),
    # labels that are asked for
    ("Name a label and what it labels.", "Answer: a label\nQuestion: another"),
    ('Write a quiz card of the form "Question: ... Answer: ..."', "Answer: 42"),
    ("给一个标签。", "答案：北京"),
]
# Right, too, where the text was cut off in them.
REPEATING = [
    "print('hello world')\n" * 4 + "print('he",
    "Round and round the garden, like a teddy bear.\n" * 3 + "Round and round",
    "Twinkle, twinkle, little star,\nHow I wonder what you are!\n" * 3 + "Twinkle, twinkle",
    "Amsterdam, Brussels, Amsterdam, Brussels, Amsterdam, Brussels, Amsterdam",
    "Paris is the capital of France. Paris is the capital of France. Paris is the capital",
    "yes, no, " * 6 + "yes",
    "Hip hip hooray! " * 3 + "Hip",
]
LONG = "The river is very long, and it flows through a land that nobody has ever seen before. "


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_stays_to_the_letter(question: str, answer: str) -> None:
    assert clean(answer, question) == answer
    assert clean(f"\n {answer}\n \n" if "\n" not in answer else answer, question) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (question, answer)
        for question, answer in RIGHT
        # Cut off in the middle of these, nobody could tell that they were to end at all.
        if not answer.startswith(("<think>", "I must"))
    ]
    + [("Repeat.", text) for text in REPEATING],
)
def test_a_right_answer_that_was_cut_off_stays_too(question: str, answer: str) -> None:
    assert clean(answer, question, cut=True) == answer
    assert "".join(streamed(answer, question, cut=True, piece=1)) == answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>hm</think>Paris", "Paris"),
        ("<think>\n\n</think>\n\nParis", "Paris"),
        (" \n<think>\nhm\n</think>\n\nParis", "Paris"),
        ("<think>a<think>b</think>c</think>Paris", "Paris"),
        ("<think>it writes <think> here\n</think>Paris", "Paris"),
        ("<think>a</think><think>b</think>Paris", "Paris"),
        ("<think>a</think>Answer: Paris", "Paris"),
        ("<think>a</think>The tag </think> ends it.", "The tag </think> ends it."),
        ("<think>a</think>\n    x = 1\n    y = 2", "    x = 1\n    y = 2"),
        ("<think>never closed", "<think>never closed"),
        ("<think>nothing else</think>", "<think>nothing else</think>"),
        # Not opened by the prompt, so it closes nothing.
        ("so it is</think>Paris", "so it is</think>Paris"),
    ],
)
def test_thinking_that_the_model_began_with_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so it is</think>Paris", "Paris"),
        ("so it is\n</think>\n\nParis </think>", "Paris </think>"),
        ("<think>so</think> it is</think>Paris", "Paris"),
        ("a</think><think>b</think>Paris", "Paris"),
        ("it never came to an answer", "it never came to an answer"),
        ("all of it</think>", "all of it</think>"),
    ],
)
def test_thinking_that_the_prompt_opened_goes(text: str, expected: str) -> None:
    assert clean(text, opened_thinking=True) == expected


def test_thinking_that_was_cut_off_loses_its_tag() -> None:
    assert clean("<think>\nIt must be Paris", cut=True) == "It must be Paris"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?\nParis", "Paris"),
        ("  What is the capital of France?  \n\nParis", "Paris"),
        ("Question: What is the capital of France?\nAnswer: Paris", "Paris"),
        ("What is the capital of France?\nWhat is the capital of France?\nParis", "Paris"),
        ("Answer: What is the capital of France?\nParis", "Paris"),
        ("What is the capital of France?", "What is the capital of France?"),
        ("What is the capital?\nParis", "What is the capital?\nParis"),
    ],
)
def test_an_echo_of_the_whole_question_on_its_own_line_goes(text: str, expected: str) -> None:
    assert clean(text, "What is the capital of France?") == expected


def test_an_echo_of_several_lines_and_a_chinese_one_go() -> None:
    assert clean("Which?\nA. x\nB. y\nA", "Which?\nA. x\nB. y") == "A"
    assert clean("问题：中国的首都是哪里？\n答案：北京", "中国的首都是哪里？") == "北京"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: Paris", "Paris"),
        ("Final answer:\nParis", "Paris"),
        ("答案：北京", "北京"),
        ("Answer:\n    x = 1\n    y = 2", "    x = 1\n    y = 2"),
        ("It is so. Answer: Paris", "It is so. Answer: Paris"),
    ],
)
def test_a_label_in_front_of_everything_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is Paris. " * 6 + "It is Pa", "It is Paris."),
        ("It is Paris.\n" * 6 + "It is Pa", "It is Paris."),
        ("Yes.\n\n" + "No way at all\n" * 6 + "No", "Yes.\n\nNo way at all"),
        ("The Titanic: " * 6 + "The", "The Titanic:"),
        ("We get x = 2." + " So x = 2." * 7 + " So", "We get x = 2. So x = 2."),
        ("巴黎是法国的首都。" * 8 + "巴黎", "巴黎是法国的首都。"),
        ("na " * 60, "na"),
        ("Paris is the capital of France. " * 6 + "Paris is the capital", None),
        (LONG * 4 + LONG[:20], LONG.strip()),
        # A number of unknown length, and what may yet go on in another way, stay.
        ("1/3 = 0." + "3" * 200, "1/3 = 0." + "3" * 200),
        ("Paris is the capital of France. Paris is the capital of", ...),
        ("The value is 12 - 11.\n\nThe value is 12 - 1", ...),
    ],
)
def test_a_loop_in_which_an_answer_was_cut_off_goes(text: str, expected: object) -> None:
    first = "Paris is the capital of France."
    assert clean(text, cut=True) == {None: first, ...: text}.get(expected, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is Paris. " * 60, "It is Paris."),
        ("It is Paris. " * 60 + "It was Rome.", "It is Paris. It was Rome."),
        ("Well: " + "It is Paris.\n" * 60 + "\nIt was.", "Well: It is Paris.\n\nIt was."),
        ("x = " * 200 + "2", "x = 2"),
        ("巴黎。" * 200, "巴黎。"),
        ("-" * 2000 + "\nParis", "-\nParis"),
        (("a b " * 100 + "and so on. ") * 2, "a b and so on. a b and so on."),
    ],
)
def test_a_loop_far_beyond_what_a_person_would_write_goes(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_a_loop_up_to_the_longest_answer_counts_as_cut_off() -> None:
    paragraph = "".join(f"Sentence {n} of many. " for n in range(20))
    assert clean(paragraph * 50) == paragraph.rstrip()


def test_half_a_character_at_the_end_goes_where_the_answer_was_cut_off() -> None:
    assert clean("北京\ufffd", cut=True) == "北京"
    assert clean("北京\ufffd") == "北京\ufffd"
    assert clean(" \ufffd", cut=True) == "\ufffd"


def test_an_answer_has_at_most_5000_characters() -> None:
    text = " ".join(f"word{n}" for n in range(2000))
    assert MAX_CHARS - 10 < len(clean(text)) <= MAX_CHARS
    assert text.startswith(clean(text))


def test_blanks_around_an_answer_go() -> None:
    assert clean("  Paris \n\n\nis\tbig \n ") == "Paris \n\n\nis\tbig"
    assert clean(" \n Paris\n") == "Paris"
    assert clean("  Paris\nis big") == "Paris\nis big"
    assert clean(" \n ") == clean("") == ""
    assert clean("\n" + " " * 10_000 + "Paris\n is") == "Paris\n is"


QUESTION = "What is the capital of France?"
SHAPES = {
    "dashes": "-",
    "letters": "ab",
    "spaces": " ",
    "newlines": "\n",
    "opening tags": "<think>",
    "closing tags": "</think>",
    "blocks": "<think></think>",
    "labelled tags": "<think>Answer:",
    "labels": "Answer: ",
    "echoes": QUESTION + "\n",
    "labelled echoes": f"Question: {QUESTION}\n \n",
    "half characters": "\ufffd",
    "sentences": "It is Paris. ",
    "Chinese": "巴黎是首都。",
    "digits": "0123456789",
    "lines": "x = 1\n  ",
}


@pytest.mark.parametrize("unit", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("ending", ["", "</think>Paris"])
def test_time_grows_no_faster_than_the_text(unit: str, ending: str) -> None:
    """A million characters of anything; whatever looked at all of them for each took hours."""
    long_question = unit * (200_000 // len(unit)) if unit != " " else QUESTION
    text = unit * (1_000_000 // len(unit)) + ending
    for question, cut, opened in ((QUESTION, False, False), (long_question, True, True)):
        started = time.process_time()
        clean(text, question, cut, opened)
        assert time.process_time() - started < 2  # 0.01 to 0.2 s is usual


def _fibonacci(length: int) -> str:
    a, b = "a", "ab"
    while len(b) < length:
        a, b = b, b + a
    return b


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        _fibonacci(6000),
        "".join("ab"[n.bit_count() % 2] for n in range(6000)),
        (("a " * 30 + "b ") * 30 + "c ") * 5,
        "".join("a" * n + "b" for n in range(100)),
        "".join("a" * 24 + chr(0x4E00 + n) for n in range(200)),
    ],
    ids=["Fibonacci", "Thue-Morse", "nested", "growing", "broken"],
)
def test_loops_within_loops_end_soon(text: str, cut: bool) -> None:
    started = time.process_time()
    once = clean(text, cut=cut)
    assert time.process_time() - started < 2
    assert clean(once, cut=cut) == once


pieces = st.sampled_from(
    ["<think>", "</think>", "<|im_end|>", "Answer:", "Q", "\n", " ", "。", ". ", "a", "\ufffd"]
    + ["It is Paris. " * 3, "It is Paris.\n" * 40, "Is it Paris at all?", "- " * 900]
)
texts = st.lists(pieces | st.text(max_size=5), max_size=12).map("".join)
questions = st.sampled_from(["Is it Paris at all?", "a"]) | st.text(max_size=5)


@settings(deadline=None)
@given(texts, questions, st.booleans(), st.booleans())
def test_it_is_never_empty_when_the_model_said_something(
    text: str, question: str, cut: bool, opened: bool
) -> None:
    answer = clean(text, question, cut, opened)
    assert bool(answer) == bool(text.strip())
    assert len(answer) <= MAX_CHARS


@settings(deadline=None)
@given(texts, questions, st.booleans())
def test_cleaning_twice_is_cleaning_once(text: str, question: str, cut: bool) -> None:
    once = clean(text, question, cut)
    assert clean(once, question, cut) == once
    assert clean(once, question) == once


@settings(deadline=None)
@given(texts, st.booleans(), st.booleans())
def test_cleaning_does_not_invent(text: str, cut: bool, opened: bool) -> None:
    letters = iter(text)
    assert all(letter in letters for letter in clean(text, "a", cut, opened))


@settings(deadline=None)
@given(st.text(max_size=399), questions)
def test_a_text_without_loop_echo_thinking_or_label_only_loses_the_blanks_around_it(
    text: str, question: str
) -> None:
    text = "It is " + text
    if not text.startswith(question):
        assert clean(text, question) == text.rstrip()


@settings(deadline=None)
@given(st.text(st.characters(), max_size=33))
def test_a_short_text_that_was_cut_off_stays(text: str) -> None:
    text = "It is" + text.rstrip("\ufffd").rstrip()
    assert clean(text, cut=True) == text.rstrip("\ufffd").rstrip()


def streamed(
    text: str, question: str = "", cut: bool = False, opened: bool = False, piece: int = 3
) -> list[str]:
    """What is shown of a text that comes in pieces, after each of them and at the end."""
    cleaner = Cleaner(question, opened)
    shown = [cleaner.add(text[at : at + piece]) for at in range(0, len(text), piece)]
    return [*shown, cleaner.finish(cut)]


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_stream_of_a_right_answer_is_the_answer(question: str, answer: str) -> None:
    assert "".join(streamed(answer, question)) == answer
    assert "".join(streamed(answer, question, piece=1)) == answer


def test_a_stream_shows_a_usual_answer_at_once() -> None:
    text = "Answer: The capital of France is Paris. It lies on the Seine.\n\nIt is old."
    shown = streamed(text, "What is the capital of France?", piece=1)
    so_far, latest = 0, 0
    for at, piece in enumerate(shown[:-1], start=1):
        so_far += len(piece)
        if at > len("Answer: "):
            latest = max(latest, at - len("Answer: ") - so_far)
    assert latest <= 6  # a word that was written before is waited for


def test_a_stream_holds_back_what_may_be_a_loop() -> None:
    text = "It is Paris. " * 10
    shown = streamed(text, cut=True)
    assert "".join(shown) == "It is Paris."
    assert "".join(shown[:-1]) == "It is Paris."
    later = streamed(text + "No, it was Rome.")
    assert "".join(later) == (text + "No, it was Rome.").strip()
    assert len("".join(later[:-1])) > len(text)  # the loop was left: it is shown again


@settings(deadline=None, max_examples=200)
@given(texts, questions, st.booleans(), st.booleans(), st.integers(1, 50))
def test_a_stream_is_the_whole_answer_to_the_letter(
    text: str, question: str, cut: bool, opened: bool, piece: int
) -> None:
    shown = "".join(streamed(text, question, cut, opened, piece))
    assert shown == clean(text, question, cut, opened)


loops = st.lists(
    st.tuples(
        st.sampled_from(["la ", "No. ", "ab", "I do not know. ", "x\n", "- "]), st.integers(1, 60)
    ),
    max_size=6,
).map(lambda parts: "".join(word * count for word, count in parts))


@settings(deadline=None, max_examples=60)
@given(st.lists(loops | texts, max_size=4).map("".join), st.booleans(), st.integers(1, 50))
def test_a_stream_of_loops_within_loops_is_the_whole_answer(
    text: str, cut: bool, piece: int
) -> None:
    assert "".join(streamed(text, "a", cut, False, piece)) == clean(text, "a", cut)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "XYXYXY" + ("X" + "Y" * 450) * 24,  # what is left of each loop makes another
        "I do not know. no. I do not know. " + "no. " * 200 + "I do not know. no. I do not know.",
        "BAAA AAA AAA AAA AAA AAA AAA AAA AAA AAA AAA. " * 4,
        _fibonacci(3000),
    ],
)
def test_what_a_stream_has_shown_is_never_taken_back(text: str, cut: bool) -> None:
    for piece in (1, len(text)):
        assert "".join(streamed(text, "", cut, False, piece)) == clean(text, "", cut)


def test_streaming_a_long_answer_takes_little_time() -> None:
    text = " ".join(f"word{n % 97} of {n}" for n in range(600))
    started = time.process_time()
    streamed(text)
    assert time.process_time() - started < 2  # 0.1 s is usual
