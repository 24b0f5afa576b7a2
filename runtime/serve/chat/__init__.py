"""From the messages of a chat to a prompt in the model's own template."""
