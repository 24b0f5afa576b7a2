"""GGUF files on disk: which there are, what manifests say of them, which answer a subject."""
