"""/v1/messages: Anthropic's API, answered as a chat."""
