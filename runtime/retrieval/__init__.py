"""Finds passages of a knowledge base that may help to answer a question.

retrieval = Retrieval.load(folder, {"geography": True}, top_k=3)
retrieval.passages("geography", "What is the capital of Latvia?")
"""

from typing import TYPE_CHECKING

from runtime.common.doors import lazy
from runtime.retrieval.files import KnowledgeError

if TYPE_CHECKING:
    from runtime.retrieval.gate import Gate
    from runtime.retrieval.index import Index, Passage
    from runtime.retrieval.retrieval import Retrieval, Use
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "runtime.retrieval.gate": ["Gate"],
            "runtime.retrieval.index": ["Index", "Passage"],
            "runtime.retrieval.retrieval": ["Retrieval", "Use"],
        },
    )

__all__ = ["Gate", "Index", "KnowledgeError", "Passage", "Retrieval", "Use"]
