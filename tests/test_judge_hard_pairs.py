"""Pairs on which judges that compare words go wrong, each with the verdict of a careful reader."""

from __future__ import annotations

import pytest

from evaluation.judges import judge
from evaluation.records import Item

R, W = True, False
FACT, SUM, HAN = "history", "algebra", "chinese"

# (subject, question, right answer, answer, verdict)
PAIRS: list[tuple[str, str, str, str, bool]] = [
    # a name that has another's in it
    (FACT, "Whose capital is Brazzaville?", "Congo", "Democratic Republic of the Congo", W),
    (FACT, "Whose capital is Brazzaville?", "Congo", "The Republic of the Congo.", R),
    (FACT, "Whose capital is Kinshasa?", "Democratic Republic of the Congo", "DR Congo", R),
    (FACT, "Whose capital is Kinshasa?", "Democratic Republic of the Congo", "Congo", W),
    (FACT, "Whose capital is Conakry?", "Guinea", "Papua New Guinea", W),
    (FACT, "Whose capital is Conakry?", "Guinea", "Guinea-Bissau.", W),
    (FACT, "Whose capital is Conakry?", "Guinea", "It is the capital of Guinea.", R),
    (FACT, "Whose capital is Seoul?", "South Korea", "Korea", W),
    (FACT, "Whose capital is Seoul?", "South Korea", "North Korea", W),
    (FACT, "Whose capital is Seoul?", "South Korea", "the Republic of Korea", R),
    (FACT, "Whose capital is Khartoum?", "Sudan", "South Sudan", W),
    (FACT, "Which state has Richmond?", "Virginia", "West Virginia", W),
    (FACT, "Which country lies south of the USA?", "Mexico", "New Mexico", W),
    (FACT, "Which continent is Poland in?", "Europe", "Poland lies in Eastern Europe.", R),
    (FACT, "Where is Bavaria?", "Germany", "It is in southern Germany.", R),
    (FACT, "Which city became the capital in 1990?", "Berlin", "the Berlin Wall", W),
    (FACT, "Which country has Cancun?", "Mexico", "Mexico City", W),
    (FACT, "Who was the first president?", "George Washington", "George Washington Carver", W),
    (FACT, "Who nailed up 95 theses?", "Martin Luther", "Martin Luther King Jr.", W),
    (
        FACT,
        "Who wrote Hamlet?",
        "William Shakespeare",
        "William Shakespeare's son Hamnet wrote it.",
        W,
    ),
    (FACT, "Who wrote Hamlet?", "William Shakespeare", "Hamlet is William Shakespeare's play.", R),
    (FACT, "What is the formula of water?", "H2O", "H2O2", W),
    (FACT, "What is the formula of water?", "H2O", "Water is H₂O.", R),
    (FACT, "What is carbon monoxide?", "CO", "CO2", W),
    (FACT, "Which president was shot in 1865?", "Abraham Lincoln", "Lincoln", R),
    (FACT, "Which ocean is the largest?", "Pacific", "The Pacific Ocean.", R),
    # a year among years
    (FACT, "When did World War II end?", "1945", "Between 1939 and 1945.", W),
    (FACT, "When did World War II end?", "1945", "After 1945.", W),
    (FACT, "How many people were aboard?", "24", "between 9 and 24", W),
    (FACT, "When did World War II end?", "1945", "Some time before 1945.", W),
    (FACT, "When did World War II end?", "1945", "It was 1944, 1945.", W),
    (FACT, "When did World War II end?", "1945", "In 1944 or 1945.", W),
    (FACT, "When did World War II end?", "1945", "It did not end until 1945.", R),
    (FACT, "When did World War II end?", "1945", "On 2 September 1945.", R),
    (FACT, "When did World War II end?", "1945", "It lasted from 1939 to 1945.", R),
    (FACT, "When was World War II?", "1939 to 1945", "from 1939 to 1945", R),
    # denied, hedged, listed
    (FACT, "What is Canada's capital?", "Ottawa", "Anything but Ottawa.", W),
    (FACT, "What is Canada's capital?", "Ottawa", "It cannot be Ottawa.", W),
    (FACT, "What is Canada's capital?", "Ottawa", "Ottawa is wrong.", W),
    (FACT, "What is Canada's capital?", "Ottawa", "Ottawa/Toronto", W),
    (FACT, "What is Canada's capital?", "Ottawa", "Neither Ottawa nor Toronto.", W),
    (FACT, "What is Canada's capital?", "Ottawa", "A city other than Ottawa.", W),
    (FACT, "What is Canada's capital?", "Ottawa", "None other than the city of Ottawa.", R),
    (FACT, "After whom is it named?", "Queen Victoria", "It is named after Queen Victoria.", R),
    # yes and no
    (FACT, "Can penguins fly?", "No", "Penguins cannot fly.", R),
    (FACT, "Can penguins fly?", "No", "Penguins can't fly, but they swim well.", R),
    (FACT, "Can penguins fly?", "No", "They cannot.", R),
    (FACT, "Can penguins fly?", "No", "Penguins can fly.", W),
    (FACT, "Can penguins fly?", "No", "Although they swim, penguins are unable to fly.", R),
    (FACT, "Can penguins fly?", "No", "Nope.", R),
    (FACT, "Can penguins fly?", "No", "Yes and no.", W),
    (FACT, "Can penguins fly?", "No", "It is not true that penguins cannot fly.", W),
    (FACT, "Is Paris in France?", "Yes", "Paris is in France.", R),
    (FACT, "Is Paris in France?", "Yes", "Paris is not in France.", W),
    (FACT, "Is Paris in France?", "Yes", "Of course.", R),
    (FACT, "Is Paris in France?", "Yes", "No doubt, Paris is in France.", R),
    (FACT, "Are whales fish?", "False", "No, they are mammals.", R),
    (FACT, "Is the Earth flat?", "no", "That is a myth.", R),
    (HAN, "企鹅会飞吗？", "不是", "企鹅不会飞。", R),
    # numbers in other words
    (SUM, "What is 3 * 500?", "1.5e3", "1500", R),
    (SUM, "What is 3 * 500?", "1500", "1.5 × 10^3", R),
    (SUM, "What is 3 * 500?", "1500", "one thousand five hundred", R),
    (SUM, "What is 3 * 500?", "1500", "15 hundred", R),
    (SUM, "What is 3 * 500?", "1500", "1.5e4", W),
    (SUM, "Write 0.0015.", "0.0015", "1.5e-3", R),
    (SUM, "What is 2/3?", "2/3", "two thirds", R),
    (SUM, "What is 3/4?", "0.75", "three quarters", R),
    (SUM, "What is 1/3?", "1/3", "0.333...", R),
    (SUM, "What share is it?", "75%", "75 percent", R),
    (SUM, "What is the sum?", "250", "two hundred and fifty", R),
    (FACT, "How many?", "1,500", "fifteen hundred", R),
    (FACT, "How many?", "2,500,000", "2.5 million", R),
    # units
    (SUM, "How far is it?", "1 km", "1000 m", R),
    (SUM, "How far is it?", "1 km", "1 m", W),
    (SUM, "How far is it?", "1 km", "1", R),
    (SUM, "How far is it?", "1 km", "1 kg", W),
    (SUM, "How long does it take?", "1.5 hours", "90 minutes", R),
    (SUM, "How long does it take?", "90 minutes", "1 hour and 30 minutes", R),
    (SUM, "How fast is it?", "60 km/h", "60 mph", W),
    (SUM, "How fast is it?", "10 m/s", "36 km/h", R),
    (SUM, "What does it cost?", "$0.50", "50 cents", R),
    (SUM, "What does it weigh?", "2 kg", "It weighs 2000 grams.", R),
    (FACT, "When does water boil?", "100 °C", "At 212 °F.", R),
    (FACT, "When does water boil?", "100 °C", "100 °F", W),
    (FACT, "How high is it?", "6,961 m", "6.961 km", R),
    (FACT, "How high is it?", "8,849 m", "29,032 feet", R),
    (FACT, "How high is it?", "8,849 m", "8,849 feet", W),
    # shares
    (FACT, "What share of them is found there?", "25%", "About one quarter.", R),
    (FACT, "What share of them is found there?", "25%", "a third", W),
    (FACT, "What share of them is found there?", "half", "50 percent", R),
    (FACT, "What share of them is found there?", "half", "Half of them.", R),
    (FACT, "What share of them is found there?", "two thirds", "Two-thirds of it.", R),
    (FACT, "What share of them is found there?", "90%", "72%", W),
    (HAN, "占多少？", "三分之一", "1/3", R),
    (HAN, "占多少？", "25%", "百分之二十五", R),
    (HAN, "占多少？", "三分之一", "三分之二", W),
    # lists
    (FACT, "Which colors has the flag?", "red, white and blue", "blue, white, red", R),
    (FACT, "Which colors has the flag?", "red, white and blue", "red and white", W),
    (FACT, "Who explored it?", "Meriwether Lewis and William Clark", "Lewis and Clark", R),
    (FACT, "Which islands are one state?", "Trinidad and Tobago", "Tobago", W),
    # two names of one place
    (FACT, "Which country is it?", "USA", "The United States of America.", R),
    (FACT, "Which country is it?", "United States", "the U.S.", R),
    (FACT, "Which country is it?", "UK", "England", W),
    (FACT, "Which country is it?", "the Netherlands", "Holland", R),
    (FACT, "Which city is it?", "St. Petersburg", "Saint Petersburg", R),
    # sets of numbers
    (SUM, "Solve x - 2 > 0.", "x > 2", "(2, ∞)", R),
    (SUM, "Solve x - 2 > 0.", "x > 2", "[2, ∞)", W),
    (SUM, "Solve x - 2 > 0.", "x > 2", "x ≥ 2", W),
    (SUM, "Solve x - 2 > 0.", "x > 2", "x ∈ (2, \\infty)", R),
    (SUM, "Solve the inequality.", "2 < x ≤ 5", "(2, 5]", R),
    (SUM, "Solve the inequality.", "2 < x < 5", "(2, 5)", R),
    (SUM, "Solve the inequality.", "(2, 5)", "x > 2 and x < 5", R),
    (SUM, "Solve the inequality.", "x < -2 or x > 2", "(-∞, -2) ∪ (2, ∞)", R),
    (SUM, "Solve the inequality.", "x < -2 or x > 2", "(-∞, -2)", W),
    (SUM, "Solve the inequality.", "x ≥ 3", "x is at least 3", R),
    (SUM, "Where do they meet?", "(2, 3)", "(3, 2)", W),
    (SUM, "Solve x = x + 1.", "no solution", "∅", R),
    (SUM, "Solve x + 1 = 4.", "x = 3", "x = 3 or x = 4", W),
]


@pytest.mark.parametrize(("subject", "question", "reference", "answer", "right"), PAIRS)
def test_a_hard_pair(subject: str, question: str, reference: str, answer: str, right: bool) -> None:
    verdict = judge(Item("1", subject, question, (reference,)), answer)
    assert verdict.correct == right, verdict
