"""llama-server's engine behind its own HTTP server, with adapters chosen by each request.

    python -m benchmarks.contenders.llama_server_http work.json

Prints `serving on http://...` and serves until its input ends. Options of the work: `parallel`, its
slots; `adapters`, GGUF files that requests choose by number: `"lora": [{"id": 0, "scale": 1.0}]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contenders.llama_server import parameters
from benchmarks.contenders.work import Work


def main() -> None:
    import xllamacpp

    work = Work.read(Path(sys.argv[1]))
    params = parameters(work)
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in work.options["adapters"]
    ]
    params.lora_init_without_apply = True
    params.n_threads_http = 256  # with its few threads other clients would not be accepted
    params.port = 0
    server = xllamacpp.Server(params)
    print(f"serving on {server.listening_address}", file=sys.stderr, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
