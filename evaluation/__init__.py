"""Scores a pipeline as the contest does: accuracy 60 %, latency 40 %, with a report to look at.

`questions` → `protocol` (`worker`, `check`) → `judges` → `score` → `report`; `evaluate.py` is the
page that sees them all. Needs the extra `[evaluation]`.
"""
