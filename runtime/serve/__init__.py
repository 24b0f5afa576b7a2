"""An HTTP server that OpenAI's clients know, on the pipeline's own engines (extra `[server]`).

python -m runtime.serve

From the bottom up:

- `errors`, `body`: OpenAI's form of an error, and the bodies of requests;
- `worker`: the one thread that owns the engines;
- `catalog`, `chat`, `tools`: models by name, messages to tokens, calls of tools;
- `metrics`, `turns`, `service`: Prometheus, whose turn it is, admission, deadlines, updates;
- `asking`, `answering`, `tokens`: a body to requests, and completions to OpenAI's JSON;
- `converted`, `responses`, `anthropic`: the two other APIs, answered as chats;
- `batches`: files and batches in a folder;
- `web`: keys and sizes of bodies, clients that hang up, ids and the log;
- `app`, `adapters`, `page`: the routes;
- `options`, `server`, `__main__`: the command.
"""
