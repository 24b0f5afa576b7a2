"""The error of a knowledge base that cannot be used."""

from runtime.common.errors import SetupError


class KnowledgeError(SetupError):
    """A base, an index or a gate that cannot be used; names the file and what to do."""
