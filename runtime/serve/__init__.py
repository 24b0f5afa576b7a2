"""An HTTP server that OpenAI's clients know, on the pipeline's own engines (extra `[server]`).

python -m runtime.serve

From the bottom up: `errors` and `schema` (what goes wrong, what may come in), `worker` (the one
thread that owns the engines), `catalog` (what can be asked for as a model), `conversations`
(messages to tokens), `service` (admission, deadlines, who runs), `asking` (a body to requests),
`shapes` and `answering` (completions to OpenAI's JSON, whole or as a stream), `tokens`,
`store` and `batches` (files and batches in a folder), `metrics`, `limits` (size, key), `app` (the
routes), `options` and `__main__` (the command).
"""
