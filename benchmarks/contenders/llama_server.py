"""llama-server's engine, through the package `xllamacpp`.

Options: `parallel`, its slots; `unified`, one KV cache for all slots (default: no).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

from benchmarks.contenders.work import Answer, Prompt, Work, serve


def parameters(work: Work) -> Any:
    """The parameters of a server; see the module for options of the work."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = work.model
    params.n_parallel = work.options["parallel"]
    params.n_ctx = params.n_parallel * work.cells
    params.kv_unified = work.options.get("unified", False)
    params.cpuparams.n_threads = work.threads
    params.cpuparams_batch.n_threads = work.threads
    params.verbosity = 0
    return params


def load(work: Work) -> tuple[Answer, dict[str, str]]:
    import xllamacpp

    server = xllamacpp.Server(parameters(work))

    def one(prompt: Prompt) -> Any:
        return server.handle_completions(
            {
                "prompt": prompt.tokens,
                "n_predict": work.new_tokens,
                "temperature": 0.0,
                "ignore_eos": True,
            }
        )

    def answer() -> tuple[list[str], int]:
        with ThreadPoolExecutor(len(work.prompts)) as pool:
            found = list(pool.map(one, work.prompts))
        for each in found:
            if "choices" not in each:
                raise RuntimeError(f"the server answered {each}")
        texts = [each["choices"][0]["text"] for each in found]
        return texts, sum(each["usage"]["completion_tokens"] for each in found)

    build = {
        "xllamacpp": metadata.version("xllamacpp"),
        "its compiler": str(xllamacpp.BUILD_INFO.get("compiler", "unknown")),
        "its llama.cpp": " ".join(str(xllamacpp.get_system_info()).split()),
    }
    return answer, build


if __name__ == "__main__":
    serve(load)
