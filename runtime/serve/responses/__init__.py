"""/v1/responses: OpenAI's newer API, answered as a chat."""
