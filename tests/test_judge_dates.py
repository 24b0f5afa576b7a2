"""What makes one date, time or sum of money another than its neighbour."""

from __future__ import annotations

import pytest

from evaluation.judges import judge
from evaluation.records import Item


def right(reference: str, answer: str, subject: str = "history", question: str = "When?") -> bool:
    return judge(Item(1, subject, question, (reference,)), answer).correct


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("July 4, 1776", "4 July 1776"),
        ("July 4, 1776", "1776-07-04"),
        ("July 4, 1776", "It was on the 4th of July, 1776."),
        ("July 1776", "on 4 July 1776"),
        ("1949年10月1日", "一九四九年十月一日"),
        ("44 BC", "44 BCE"),
        ("44 BC", "On the Ides of March, 44 B.C."),
        ("14 AD", "In AD 14."),
        ("1066", "AD 1066"),
        ("4:45 pm", "It ends at 4:45 PM."),
        ("4:45 pm", "16:45"),
        ("$7.2 million", "7,200,000 dollars"),
        ("$7.2 million", "7.2 million US dollars"),
        ("34个", "三十四"),
        ("18th century", "In 1776."),
        ("1980s", "It fell in 1989."),
        ("十八世纪", "1776年"),
    ],
)
def test_the_same(reference: str, answer: str) -> None:
    subject = "chinese" if reference[-1] > "\u4e00" else "history"
    assert right(reference, answer, subject)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("July 4, 1776", "June 4, 1776"),
        ("July 4, 1776", "July 4, 1777"),
        ("July 4, 1776", "It was adopted on July 2, 1776 and signed on August 4."),
        ("44 BC", "AD 44"),
        ("14 AD", "14 BC"),
        ("1066", "1066 BC"),
        ("公元前221年", "公元221年"),
        ("4:45 pm", "4:45 am"),
        ("$7.2 million", "£7.2 million"),
        ("$7.2 million", "7.2 million euros"),
        ("5", "负五"),
        ("18th century", "In 1801."),
        ("14th century", "In 1347 BC"),
        ("1980s", "in 1990"),
    ],
)
def test_another(reference: str, answer: str) -> None:
    assert not right(reference, answer)
    assert not right(reference, answer, "algebra")


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("Italy", "The countries are Italy and Greece.", False),
        ("Yen", "Yen and won", False),
        ("Haiti and the Dominican Republic", "Cuba, Haiti and the Dominican Republic", False),
        ("Haiti and the Dominican Republic", "Dominican Republic and Haiti", True),
        ("Paris", "Paris, France", True),
        ("Rome", "Rome and it lies on the Tiber.", True),
    ],
)
def test_one_of_two_is_no_choice(reference: str, answer: str, verdict: bool) -> None:
    assert right(reference, answer, "geography", "Which?") is verdict


@pytest.mark.parametrize(
    ("subject", "question", "reference", "answer", "verdict"),
    [
        ("chinese", "长城是不是在中国？", "是", "长城在中国。", True),
        ("chinese", "李白是不是宋朝人？", "不是", "李白不是宋朝人，是唐朝人。", True),
        ("chinese", "李白是不是宋朝人？", "不是", "李白是宋朝人。", False),
        ("chinese", "《红楼梦》的作者是谁？", "曹雪芹", "是曹雪芹，不是罗贯中。", True),
        ("chinese", "《红楼梦》的作者是谁？", "曹雪芹", "不是曹雪芹，而是罗贯中。", False),
        ("geography", "What is the capital?", "Canberra", "Not Sydney but Canberra.", True),
        ("geography", "What is the capital?", "Canberra", "Sydney, not Canberra.", False),
    ],
)
def test_one_thing_and_not_another(
    subject: str, question: str, reference: str, answer: str, verdict: bool
) -> None:
    assert right(reference, answer, subject, question) is verdict
