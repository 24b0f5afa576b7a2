"""GGUF files on disk: which there are, what the manifest says, which serve a subject."""
