"""Scores a pipeline as the contest does, accuracy 60 %, latency 40 %, and writes a report.

`questions` → `protocol` (`worker`, `check`) → `judges` → `score` → `report`; `evaluate.py` calls
them in this order. Needs the extra `[evaluation]`.
"""
