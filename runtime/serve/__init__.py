"""An HTTP server that OpenAI's clients know, on the pipeline's own engines (extra `[server]`).

python -m runtime.serve

From the bottom up:

- `errors`, `schema`: OpenAI's form of an error, and the bodies of requests;
- `worker`: the one thread that owns the engines;
- `catalog`, `conversations`: models by name, and messages to tokens;
- `metrics`, `service`: Prometheus, and requests on their way: admission, deadlines, updates;
- `asking`, `answering`, `tokens`: a body to requests, and completions to OpenAI's JSON;
- `store`, `journal`, `batches`: files and batches in a folder;
- `limits`, `hangups`, `requests`: keys and sizes of bodies, clients that leave, ids and the log;
- `app`, `batch_routes`, `adapters`: the routes;
- `options`, `server`, `__main__`: the command.
"""
