"""One longest answer for all subjects, where work is compared with that of others."""

from __future__ import annotations

from dataclasses import replace

from runtime import Settings


def of_one_length(settings: Settings) -> Settings:
    """Settings in which no subject has longer answers than MAX_NEW_TOKENS."""
    subjects = settings.subjects
    declared = tuple(replace(subject, length=1.0) for subject in subjects.declared)
    return settings.model_copy(update={"subjects": replace(subjects, declared=declared)})
