"""Metrics for Prometheus with vLLM's names, so that vLLM's dashboards show this server, too."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runtime.serve.worker import Load

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_BETWEEN = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5)
_WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
_LABELS = ("model_name", "engine")


class Metrics:
    """Counters and histograms of a server.

    Args:
        base: name of the base, for what concerns all models.
        load: how busy the engines are.
    """

    def __init__(self, base: str, load: Callable[[], Load]) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, meaning: str, value: Callable[[Load], float]) -> None:
            made = Gauge(name, meaning, _LABELS, registry=self.registry)
            made.labels(base, "0").set_function(lambda: value(load()))

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, meaning, _LABELS, buckets=buckets, registry=self.registry)

        def counter(name: str, meaning: str, *more: str) -> Counter:
            return Counter(name, meaning, (*_LABELS, *more), registry=self.registry)

        gauge("vllm:num_requests_running", "Requests that hold a slot.", lambda now: now.running)
        gauge("vllm:num_requests_waiting", "Requests that wait for one.", lambda now: now.waiting)
        gauge("vllm:kv_cache_usage_perc", "KV cache in use, 0 to 1.", lambda now: now.cache_use)
        gauge(
            "vllm:gpu_cache_usage_perc", "The same, by its older name.", lambda now: now.cache_use
        )
        self.prompt_tokens = counter("vllm:prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = counter("vllm:generation_tokens", "Tokens written.")
        self.prefix_queries = counter(
            "vllm:prefix_cache_queries", "Tokens of prompts that were looked for."
        )
        self.prefix_hits = counter(
            "vllm:prefix_cache_hits", "Tokens of them that were found computed."
        )
        self.success = counter("vllm:request_success", "Requests that ended.", "finished_reason")
        self.first_token = histogram(
            "vllm:time_to_first_token_seconds", "From arrival to the first token.", _FIRST
        )
        self.between_tokens = histogram(
            "vllm:inter_token_latency_seconds", "From a token to the next.", _BETWEEN
        )
        self.per_token = histogram(
            "vllm:time_per_output_token_seconds", "Per token after the first, by request.", _BETWEEN
        )
        self.whole = histogram(
            "vllm:e2e_request_latency_seconds", "From arrival to the end.", _WHOLE
        )
        self.prompt_length = histogram("vllm:request_prompt_tokens", "Of a prompt.", _TOKENS)
        self.length = histogram("vllm:request_generation_tokens", "Of an answer.", _TOKENS)
        self._adapters = Gauge(
            "vllm:lora_requests_info",
            "The time of the last look; its labels name the adapters.",
            ("running_lora_adapters", "waiting_lora_adapters", "max_lora"),
            registry=self.registry,
        )
        self.refused = Counter(
            "subject_lora:requests_refused",
            "Requests turned away.",
            ("reason",),
            registry=self.registry,
        )

    def text(self, adapters: list[str], now: float) -> bytes:
        """Everything in Prometheus's text format.

        Args:
            adapters: the names under which adapters are served.
            now: seconds since 1970.
        """
        self._adapters.clear()
        self._adapters.labels(",".join(adapters), "", str(len(adapters))).set(now)
        return generate_latest(self.registry)
