"""What counts as stating a fact, in English and in Chinese."""

from __future__ import annotations

import pytest

from evaluation.judges import judge
from evaluation.judges.chinese import with_arabic_digits
from evaluation.records import Item
from tests.verdicts import verdict

# --- facts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("Paris", "The capital of France is Paris."),
        ("Paris", "Paris, France"),
        ("Germany", "Germany invaded Poland, France, Belgium and Norway."),
        ("seven", "There are 7 continents: Asia, Africa, Europe, both Americas and others."),
        ("Paris", "London and Rome are big, but the capital is Paris."),
        ("George Washington", "Washington"),
        ("the Berlin Wall", "It was the Berlin wall that came down."),
        ("Bosnia and Herzegovina", "It's Bosnia and Herzegovina."),
        ("World War II", "the Second World War"),
        ("July 20, 1969", "on 20 July 1969"),
        ("1945", "World War II ended in 1945."),
        ("8", "A spider has eight legs."),
        ("100 °C", "100 degrees Celsius"),
        ("1.4 billion", "It has 1,400,000,000 people."),
        ("H2O", "H₂O"),
        ("Côte d'Ivoire", "Cote d’Ivoire"),
        ("yes", "Yes, it is."),
        ("the dog", "Dogs."),
        ("Ottawa", "Ottawa, not Toronto, is the capital."),
        ("Paris", "Paris is not only the capital but the largest city."),
        ("Aconcagua (6,961 m)", "Aconcagua"),
        (("难过", "sad"), "It is sad."),
        (
            "Aconcagua (6,961 m) in Argentina",
            "The highest peak of South America is Aconcagua, at 6961 metres, which lies in"
            " Argentina.",
        ),
    ],
)
def test_a_right_fact(reference: str | tuple[str, ...], answer: str) -> None:
    assert verdict("history", reference, answer).correct


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("Paris", "London"),
        ("Rome", "Romeo"),
        ("Paris", "It is not Paris but London."),
        ("Ottawa", "Ottawa is not the capital of Canada."),
        ("Ottawa", "It isn't Ottawa."),
        ("Paris", "Paris or London"),
        ("Paris", "Paris, London, Rome, Berlin"),
        ("Paris", "It could be London, Rome, Paris, Oslo or Berlin."),
        ("Paris", "1. London\n2. Rome\n3. Paris\n4. Oslo"),
        ("George Washington", "George Bush"),
        ("World War II", "World War I"),
        ("Henry VIII", "Henry VII"),
        ("1945", "It ended in 1944."),
        ("1945", "19456"),
        ("July 20, 1969", "July 1969"),
        ("yes", "No, yes-men would."),
        ("It", "It is Carrie."),
        ("Aconcagua (6,961 m)", "Aconcagua, which is 6,768 m high"),
        (
            "Aconcagua (6,961 m) in Argentina",
            "The highest mountain in South America is Huascarán in Peru, which is 6,768 m high and"
            " lies in the Andes.",
        ),
    ],
)
def test_a_wrong_fact(reference: str, answer: str) -> None:
    assert not verdict("history", reference, answer).correct


def test_the_score_says_how_near_an_answer_is() -> None:
    near = verdict("history", "George Washington", "George Bush")
    far = verdict("history", "George Washington", "Napoleon")
    assert far.score == 0.0 < near.score < 1.0


@pytest.mark.parametrize(
    ("question", "reference", "answer"),
    [
        ("On which road in London is it?", "Brompton Road", "It is on the London Road."),
        (
            "Which battle of 1916 was the worst?",
            "Battle of the Somme",
            "The worst battle was in 1916.",
        ),
        (
            "What island is shared by Indonesia and the nation of East Timor?",
            "Timor",
            "The island of Sumatra is shared by Indonesia and the nation of East Timor.",
        ),
    ],
)
def test_words_of_the_question_are_no_answer(question: str, reference: str, answer: str) -> None:
    assert not judge(Item("1", "geography", question, (reference,)), answer).correct


# --- Chinese --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "reference", "answer", "right"),
    [
        (
            "Which country pays most to the EU?",
            "Germany",
            "Germany is large, but France founded the EU. So the country that pays most is France.",
            False,
        ),
        ("What is the capital?", "Lyon", "Lyon. Actually, Paris is the capital.", False),
        ("What is the capital?", "Paris", "Lyon. Actually, Paris is the capital.", True),
        ("What is the capital?", "Paris", "Paris. So the Louvre is a museum there.", True),
        ("Which town was it?", "Bugtussle", "Bug Tussle, a farming community.", True),
        ("Which ship was it?", "May Flower", "It was the Mayflower that came.", True),
        ("Where was it invented?", "On the island of Crete", "It was invented in Crete.", True),
        ("What is it?", "Assembly Building (VAB)", "The shuttle stands in the VAB.", True),
        ("How long did he sit?", "5 minutes", "According to The Times, he sat 5 minutes.", True),
        ("Which battle was it?", "Leipzig", "Halle, a few miles from Leipzig.", False),
        ("Who were enemies?", "Egypt, Syria, Jordan", "Egypt and Syria were enemies.", False),
        (
            "Which four can be seen?",
            "Israel, Egypt, Jordan, Saudi Arabia",
            "Israel, Egypt and Jordan can be seen.",
            False,
        ),
        ("How many people fit in?", "1", "1,000 people. This was the first submarine.", False),
        ("How many people fit in?", "1", "The first submarine had room for one man.", True),
        ("Which town was lit?", "Arco, Idaho", "The town that was lit is in Idaho.", False),
        (
            "What did Stalin agree to do?",
            "Attack on the eastern front to keep the Germans there",
            "Churchill met him. He would attack on the eastern front to keep the Germans there.",
            True,
        ),
        (
            "What was the play?",
            "Drat! The Cat!",
            'The play was called "Drat! The Cat!" then.',
            True,
        ),
    ],
)
def test_what_an_answer_comes_down_to(
    question: str, reference: str, answer: str, right: bool
) -> None:
    assert judge(Item("1", "history", question, (reference,)), answer).correct is right


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("吴承恩", "吴承恩"),
        ("吴承恩", "《西游记》的作者是吴承恩。"),
        ("吴承恩", "《西遊記》的作者是吳承恩。"),
        ("红楼梦", "《紅樓夢》"),
        ("1949年", "中华人民共和国成立于一九四九年。"),
        ("365", "一年有三百六十五天。"),
        ("14亿", "中国大约有十四亿人。"),
        ("４", "四"),
        ("不高兴", "“高兴”的反义词是“不高兴”。"),
        ("和平", "孔子主张和平。"),
        ("北京", "首都是北京不是上海。"),
        ("李白（唐代）", "李白"),
        ("apple", "“苹果”的英语是 Apple。"),
        ("四个季节：春、夏、秋、冬", "一年有四个季节，分别是春季、夏季、秋季和冬季。"),
    ],
)
def test_right_in_chinese(reference: str, answer: str) -> None:
    assert verdict("chinese", reference, answer).correct


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("吴承恩", "吴敬梓"),
        ("吴承恩", "不是吴承恩，是曹雪芹。"),
        ("李白", "李贺"),
        ("李白", "李白、杜甫、白居易、王维"),
        ("李白", "李白还是杜甫"),
        ("北京", "北京不是首都，上海才是。"),
        ("长江（6300公里）", "长江，长6000公里"),
        ("高兴", "不高兴"),
        ("1949年", "1948年"),
        ("10", "一百"),
        ("画蛇添足", "画蛇添角"),
        ("四个季节：春、夏、秋、冬", "一年有三个季节：春、夏、秋。"),
    ],
)
def test_wrong_in_chinese(reference: str, answer: str) -> None:
    assert not verdict("chinese", reference, answer).correct


def test_chinese_in_other_subjects_is_judged_as_chinese() -> None:
    assert verdict("general", "長江", "最长的河是长江").judge == "chinese"


@pytest.mark.parametrize(
    ("numeral", "digits"),
    [
        *(("十", "10"), ("十二", "12"), ("二十", "20"), ("三百零五", "305"), ("两千", "2000")),
        *(("二〇二四", "2024"), ("一万三千", "13000"), ("一亿两千万", "120000000")),
        *(("1.4万", "14000"), ("3千米", "3000米"), ("6,961米", "6961米")),
    ],
)
def test_chinese_numerals(numeral: str, digits: str) -> None:
    assert with_arabic_digits(numeral) == digits
