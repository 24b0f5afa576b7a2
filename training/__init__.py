"""Trains one LoRA adapter for each subject, offline."""
