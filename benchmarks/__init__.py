"""Side by side with what a user would pick instead. What was learned is in README.md."""
