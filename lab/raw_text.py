"""`python -m lab.raw_text`: the time and memory that a base of much raw text takes to make.

The text is made up: words as frequent as in a natural language (Zipf), with names and numbers that
are each said once, so that the vocabulary grows as it does in books. Every size is made into a base
in a process of its own, whose memory is watched.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from runtime.common.command import parser_for, run

_WORDS = 200_000
_ENTRY = 60  # words


def entries(megabytes: float, seed: int = 0) -> Iterator[str]:
    """JSON Lines of about so many megabytes."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = random.integers(3, 11, _WORDS)
    words = ["".join(random.choice(letters, n)) for n in lengths]
    often = np.cumsum(1 / (np.arange(_WORDS) + 2.7))
    written, number = 0.0, 0
    while written < megabytes * 1e6:
        for row in np.searchsorted(often / often[-1], random.random((1000, _ENTRY))):
            number += 1
            text = " ".join(words[rank] for rank in row)
            line = json.dumps(
                {"title": f"Topic {number // 5}", "text": f"{text} Name{number:x} in {number}."}
            )
            written += len(line) + 1
            yield line + "\n"


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and the most memory in MiB (resident, of the process alone) that a command takes."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = [0]

    def watch() -> None:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                most[0] = max(most[0], watched.memory_info().rss)
            except psutil.Error:
                return
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    if process.wait():
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    watching.join()
    return time.perf_counter() - started, most[0] / 2**20


def main(argv: list[str] | None = None) -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[100, 200])
    return run(_measure, parser.parse_args(argv))


def _measure(arguments: argparse.Namespace) -> int:
    print("| raw text, MB | seconds | most memory, MiB | base, MB | index, MB |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as name:
            raw = Path(name) / "raw.jsonl"
            with raw.open("w", encoding="utf-8") as file:
                file.writelines(entries(megabytes))
            command = [sys.executable, "-m", "kb.preprocess", "--subject", "history"]
            seconds, mib = measured([*command, "--input", str(raw), "--out", name])
            sizes = [path.stat().st_size / 1e6 for path in sorted(Path(name).glob("history_*"))]
            index, base = sizes
            print(f"| {megabytes:g} | {seconds:.0f} | {mib:.0f} | {base:.0f} | {index:.0f} |")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
