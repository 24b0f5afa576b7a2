"""Right answers, texts of any kind, and what a stream shows of them."""

from __future__ import annotations

from hypothesis import strategies as st

from runtime.answers import Cleaner

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


def fibonacci(length: int) -> str:
    a, b = "a", "ab"
    while len(b) < length:
        a, b = b, b + a
    return b


pieces = st.sampled_from(
    ["<think>", "</think>", "<|im_end|>", "Answer:", "Q", "\n", " ", "。", ". ", "a", "\ufffd"]
    + ["It is Paris. " * 3, "It is Paris.\n" * 40, "Is it Paris at all?", "- " * 900]
)
texts = st.lists(pieces | st.text(max_size=5), max_size=12).map("".join)
questions = st.sampled_from(["Is it Paris at all?", "a"]) | st.text(max_size=5)


def streamed(
    text: str, question: str = "", cut: bool = False, opened: bool = False, piece: int = 3
) -> list[str]:
    """What is shown of a text that comes in pieces, after each of them and at the end."""
    cleaner = Cleaner(question, opened)
    shown = [cleaner.add(text[at : at + piece]) for at in range(0, len(text), piece)]
    return [*shown, cleaner.finish(cut)]
