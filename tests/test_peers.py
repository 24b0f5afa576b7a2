"""What may be relied on when contenders are set side by side."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks.common import read_questions
from benchmarks.contenders.work import Prompt, Work
from benchmarks.race import Contender, compete, contenders, failure
from benchmarks.shapes import make_adapters
from benchmarks.standings import Run, Standings, picture, same, summary, table
from lab import growth
from runtime.common.errors import SetupError
from tests.conftest import SAMPLES

SETTING = {
    "model": "m.gguf",
    "questions": 2,
    "new_tokens": 10,
    "machine": {"CPU": "one"},
}


def a_run(contender: str, seconds: float, **changes: object) -> Run:
    run = Run(contender, f"the {contender}", 1, "now", 0.0, 1.0, seconds, 20, 2**30, {"v": "1"})
    return replace(run, **changes)  # type: ignore[arg-type]


@pytest.fixture
def race() -> Standings:
    standings = Standings(dict(SETTING))
    for seconds in (10.0, 12.0, 90.0):
        standings.add(a_run("one-by-one", seconds), ["Paris is it", "Rome"])
    standings.add(a_run("ours", 4.0), ["Paris is it", "Rom"])
    standings.add(a_run("llama-server-1", 9.0))
    standings.add(a_run("llama-server-16", 8.0), ["Paris is it", "London"])
    return standings


def test_a_median_counts_and_not_one_slow_round(race: Standings) -> None:
    assert race.seconds("one-by-one") == 12.0
    assert race.ratio("ours", "one-by-one") == 3.0


def test_the_summary_takes_llama_server_at_its_best(race: Standings) -> None:
    assert "- 3.00 times one by one" in summary(race)
    assert "- 2.00 times llama-server's best (llama-server-16)" in summary(race)
    assert "OpenVINO" not in summary(race)


def test_who_has_no_result_is_a_row_that_says_why(race: Standings) -> None:
    race.add(a_run("openvino", 0.0, problem="not installed: make bench-peers"))
    rows = table(race).splitlines()
    assert any("no result: not installed: make bench-peers" in row for row in rows)
    assert next(row for row in rows if "ours" in row).startswith("| **the ours** | 4.0 | 0.50 |")


def test_who_wrote_less_is_told(race: Standings) -> None:
    race.add(a_run("openvino", 1.0, new_tokens=12))
    assert "- the openvino: wrote 12 new tokens, not 20" in table(race)
    assert "ours: wrote" not in table(race)


def test_rounds_that_differ_much_are_told(race: Standings) -> None:
    assert "its runs took 10.0 to 90.0 s" in table(race)


def test_answers_are_compared_with_one_by_ones(race: Standings) -> None:
    assert race.alike("ours") == (1.0, 0.5)  # "Rom" is cut, but begins otherwise
    assert race.alike("llama-server-16") == (0.5, 0.5)
    assert race.alike("llama-server-1") is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("北京", "北\ufffd", True),
        ("北京", "北京市", True),
        ("Paris", "Rome", False),
        ("Paris", "Paris, the capital of France", False),
    ],
)
def test_a_ragged_end_makes_no_other_answer(one: str, other: str, alike: bool) -> None:
    assert same(one, other) == same(other, one) == alike


def test_pieces_of_a_measurement_are_put_together(race: Standings, tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.json"
    race.save(path)
    again = Standings.open(path, dict(SETTING))
    again.add(a_run("openvino", 5.0))
    assert again.names() == ["ours", "openvino", "llama-server-16", "llama-server-1", "one-by-one"]
    assert again.alike("ours") == race.alike("ours")


def test_another_machine_or_model_is_not_mixed_in(race: Standings, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    race.save(path)
    with pytest.raises(SetupError, match=r"model was 'm.gguf', is 'other.gguf'.*another --out"):
        Standings.open(path, SETTING | {"model": "other.gguf"})


def test_runs_of_another_build_give_way(race: Standings) -> None:
    assert race.add(a_run("one-by-one", 30.0, build={"v": "2"})) == 3
    assert race.seconds("one-by-one") == 30.0


def test_a_failure_takes_the_place_of_earlier_results(race: Standings) -> None:
    race.add(a_run("ours", 0.0, problem="crashed"))
    assert race.seconds("ours") is None
    race.add(a_run("ours", 2.0))
    assert [run.problem for run in race.runs if run.contender == "ours"] == [""]


def test_the_picture_shows_those_with_a_result(race: Standings, tmp_path: Path) -> None:
    race.add(a_run("openvino", 0.0, problem="crashed"))
    picture(race, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes()[:4] == b"\x89PNG"


def test_llama_server_runs_at_16_and_at_all_slots_unified_and_not() -> None:
    names = [c.name for c in contenders(32, []) if c.page == "llama_server"]
    assert names == [
        "llama-server-1",
        *("llama-server-16", "llama-server-16-unified"),
        *("llama-server-32", "llama-server-32-unified"),
    ]
    assert [c.name for c in contenders(16, []) if c.page == "llama_server"] == names[:3]


def test_questions_come_from_the_files_in_turn_without_answers(tmp_path: Path) -> None:
    files = []
    for subject, texts in (("history", ["a", "b", " "]), ("algebra", ["c", "a", "d"])):
        files.append(tmp_path / f"{subject}.jsonl")
        records = [
            {"questionID": f"{subject}{n}", "subject": subject, "question": text, "answer": "!"}
            for n, text in enumerate(texts)
        ]
        files[-1].write_text("\n".join(map(json.dumps, records)))
    found = read_questions(files, 4, usual=2)
    assert [q["question"] for q in found] == ["a", "c", "b", "d"]  # none twice, none empty
    assert set(found[0]) == {"questionID", "subject", "question"}
    with pytest.raises(SetupError, match="5 questions are wanted, but there are 4: --count"):
        read_questions(files, 5, usual=2)
    assert len(read_questions(files, None, usual=2)) == 2
    assert len(read_questions(files, None, usual=9)) == 4
    samples = read_questions([SAMPLES], None, usual=128)  # of which one names no subject
    assert "" in {question["subject"] for question in samples}


def test_work_reaches_a_contender_whole(tmp_path: Path) -> None:
    prompt = Prompt({"questionID": "1", "question": "北京?"}, "<s>北京?", [1, 2])
    work = Work("m.gguf", [prompt], 8, 4, 2, 64, {"parallel": 4})
    work.save(tmp_path / "work.json")
    assert Work.read(tmp_path / "work.json") == work


def test_a_contender_that_is_not_there_or_crashes_says_so(tmp_path: Path) -> None:
    work = Work(str(tmp_path / "none.gguf"), [], 8, 4, 1, 64)
    absent = Contender("openvino", "OpenVINO", "openvino", peer=True)
    assert "make bench-peers" in str(compete(absent, work, tmp_path / "python", 10))
    nobody = Contender("nobody", "nobody", "no_such_page")
    told = compete(nobody, work, Path(sys.executable), 60)
    assert isinstance(told, str)
    assert "no_such_page" in told
    assert "exit status 1" in told


def test_a_contender_that_hangs_is_stopped(tmp_path: Path) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 30\n")
    sleeper.chmod(0o755)
    work = Work("m.gguf", [], 8, 4, 1, 64)
    slow = Contender("slow", "slow", "ours")
    assert compete(slow, work, sleeper, 0.3) == "not finished after 0 s"


def test_a_failure_is_told_by_its_last_error() -> None:
    said = "loading\nValueError: no such type | 20\n   at frame 3\n"
    assert failure(said, -6) == "ValueError: no such type / 20 (exit status -6)"
    assert failure("", 1) == "no output (exit status 1)"


def test_random_adapters_fit_the_linear_layers_of_any_model(tmp_path: Path) -> None:
    base = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(base, "llama")
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((6, 4), np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.zeros(4, np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((9, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    one, two = make_adapters(base, tmp_path / "adapters", ["one", "two"], rank=3)
    tensors = {t.name: t for t in gguf.GGUFReader(one).tensors}
    assert {name: t.data.shape for name, t in tensors.items()} == {
        "blk.0.attn_q.weight.lora_a": (3, 4),
        "blk.0.attn_q.weight.lora_b": (6, 3),
    }
    assert one.read_bytes() != two.read_bytes()
    before = one.stat().st_mtime_ns
    make_adapters(base, tmp_path / "adapters", ["one"], rank=3)
    assert one.stat().st_mtime_ns == before


def test_growth_is_told_per_question(tmp_path: Path) -> None:
    points = [growth.Point(10, 10, 1.0, 40, 2**20), growth.Point(1000, 1000, 50.0, 4000, 2**21)]
    rows = growth.table(points, "questions").splitlines()
    assert rows[2] == "| 10 | 10 | 1.00 | 100.0 | 1.00 | 40 | 1 |"
    assert rows[3] == "| 1,000 | 1,000 | 50.00 | 50.0 | 0.50 | 80 | 2 |"
    growth.picture(points, "questions", tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"
