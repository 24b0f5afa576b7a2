"""Scores a pipeline as the contest does: accuracy 60 %, latency 40 %, with a report to look at.

`questions` → `protocol` (`worker`, `check`) → `judges` → `score` → `report`; `evaluate.py`
runs them in order. Needs the extra `[evaluation]`.
"""
