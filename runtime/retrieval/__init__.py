"""Finds passages of a knowledge base that may help to answer a question.

retrieval = Retrieval.load(folder, {"geography": True}, top_k=3)
retrieval.passages("geography", "What is the capital of Latvia?")
"""

from runtime.retrieval.errors import KnowledgeError
from runtime.retrieval.gate import Gate
from runtime.retrieval.index import Index, Passage
from runtime.retrieval.retrieval import Retrieval, Use

__all__ = ["Gate", "Index", "KnowledgeError", "Passage", "Retrieval", "Use"]
