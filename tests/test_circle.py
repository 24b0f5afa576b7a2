"""`lab.circle` goes the whole way on a tiny model, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convert.sources import open_source
from convert.writing import write_model
from lab import circle
from runtime.settings import PROJECT_DIR
from tests.checkpoints import save_checkpoint, tiny_tokenizer
from tests.forking import Forked


def forked_command(*arguments: str | Path) -> None:
    """As `circle.command`, in a process that need not load torch."""
    print("$ python -m", *arguments, flush=True)
    status, said = Forked(["-m", *arguments], PROJECT_DIR).end()
    assert status == 0, said


@pytest.mark.slow
def test_the_circle_closes_and_is_not_gone_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circle, "SUBJECTS", ("algebra", "history"))
    monkeypatch.setattr(circle, "command", forked_command)
    checkpoint = save_checkpoint(tmp_path / "tiny-chat", "llama", tiny_tokenizer("smollm"))
    model = tmp_path / "tiny-chat.gguf"
    write_model(open_source(checkpoint), model, "F32")
    for subject in circle.SUBJECTS:
        for part in ("train", "dev"):
            lines = [
                {
                    "questionID": f"{subject} {n}",
                    "subject": subject,
                    "question": f"What is {n}?" * 12,
                }
                | {"answer": str(n), "solution": f"{n} = {n}"}
                for n in range(12)
            ]
            path = tmp_path / f"{subject}.{part}.jsonl"
            path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    out = tmp_path / "out"
    arguments = ["--model", str(model), "--questions", str(tmp_path), "--out", str(out)]
    arguments += ["--train", "8", "--dev", "2", "--epochs", "1", "--rank", "2", "--new-tokens", "4"]
    assert circle.main(arguments) == 0
    table = (out / "table.md").read_text()
    cells = [line.removeprefix("| ").split(" | ") for line in table.splitlines()[2:]]
    likelihood = {row[0]: float(row[4]) for row in cells}
    assert list(likelihood) == [
        "base F16",
        "base Q4_K_M",
        "PEFT in transformers",
        "merged Q4_K_M",
        "merged Q4_K_M, importance matrix",
        "adapter on Q4_K_M",
        "adapter on Q4_K_M, importance matrix",
    ]
    adapter, peft = likelihood["adapter on Q4_K_M"], likelihood["PEFT in transformers"]
    assert adapter == pytest.approx(peft, rel=0.2)
    capfd.readouterr()
    assert circle.main(arguments) == 0
    assert "$ python -m" not in capfd.readouterr().out  # nothing is trained or exported again
    assert (out / "table.md").read_text() == table

    assert circle.main([*arguments, "--dev", "3"]) == 1
    assert "made with --dev 2; name another --out" in capfd.readouterr().err
