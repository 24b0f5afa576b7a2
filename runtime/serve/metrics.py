"""Metrics for Prometheus with vLLM's names, so that vLLM's dashboards show this server, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from runtime.serve.worker import Load

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_BETWEEN = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5)
_WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
# Histograms by vLLM's names: what they are about, and their buckets.
_HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "time_to_first_token_seconds": ("From arrival to the first token.", _FIRST),
    "inter_token_latency_seconds": ("From a token to the next.", _BETWEEN),
    "time_per_output_token_seconds": ("Per token after the first, by request.", _BETWEEN),
    "request_time_per_output_token_seconds": ("The same, by its newer name.", _BETWEEN),
    "e2e_request_latency_seconds": ("From arrival to the end.", _WHOLE),
    "request_queue_time_seconds": ("Until it has a slot.", _WHOLE),
    "request_prefill_time_seconds": ("From then to the first token.", _WHOLE),
    "request_decode_time_seconds": ("From the first token to the last.", _WHOLE),
    "request_inference_time_seconds": ("From having a slot to the end.", _WHOLE),
    "request_prompt_tokens": ("Of a prompt.", _TOKENS),
    "request_generation_tokens": ("Of an answer.", _TOKENS),
    "request_params_max_tokens": ("Tokens asked for.", _TOKENS),
    "request_max_num_generation_tokens": ("Most tokens of a body's answers.", _TOKENS),
    "request_params_n": ("Choices asked for.", (1, 2, 5, 10, 20)),
    "iteration_tokens_total": ("Of an engine's step.", _TOKENS),
}
_ENDED = ("stop", "length", "abort", "error")


@dataclass
class Times:
    """When a request came, first had a slot, got its first token and its newest one.

    By `time.perf_counter`; 0.0 is not yet.
    """

    arrived: float
    began: float = 0.0
    first: float = 0.0
    last: float = 0.0


class Metrics:
    """Counters and histograms of a server.

    All have the base's name as `model_name`, as vLLM's dashboards expect; requests are also
    counted by the model that was asked. `cache` describes the KV cache, by label.
    """

    def __init__(self, base: str, load: Callable[[], Load], cache: Mapping[str, str]) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = {"model_name": base, "engine": "0"}

        def gauge(name: str, meaning: str, value: Callable[[Load], float]) -> None:
            made = Gauge(f"vllm:{name}", meaning, labels, registry=registry)
            made.labels(**labels).set_function(lambda: value(load()))

        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"vllm:{name}", meaning, labels, registry=registry).labels(**labels)

        def counter_by(name: str, meaning: str, *by: str) -> Counter:
            return Counter(name, meaning, by, registry=registry)

        gauge("num_requests_running", "Requests that hold a slot.", lambda now: now.running)
        gauge("num_requests_waiting", "Requests that wait for one.", lambda now: now.waiting)
        for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc"):  # new and old name
            gauge(name, "KV cache in use, 0 to 1.", lambda now: now.cache_use)
        # Dashboards for vLLM before 1.0 have panels of these; nothing is swapped here.
        gauge("num_requests_swapped", "Always 0.", lambda now: 0)
        gauge("cpu_cache_usage_perc", "Always 0.", lambda now: 0)
        config = Gauge(
            "vllm:cache_config_info",
            "Always 1; the labels say how the KV cache is divided.",
            (*labels, *cache),
            registry=registry,
        )
        config.labels(**labels, **cache).set(1)
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self._generation_tokens = counter("generation_tokens", "Tokens written.")
        self._preemptions = counter("num_preemptions", "Lines of batches that gave way.")
        self._prefix = [
            (
                counter(f"{kind}prefix_cache_queries", "Tokens of prompts looked for."),
                counter(f"{kind}prefix_cache_hits", "Tokens of them found computed."),
            )
            for kind in ("", "gpu_")
        ]
        ended = "Requests that ended."
        success = counter_by("vllm:request_success", ended, *labels, "finished_reason")
        self._success = {
            reason: success.labels(**labels, finished_reason=reason) for reason in _ENDED
        }
        self._histograms = {
            name: Histogram(
                f"vllm:{name}", meaning, labels, buckets=buckets, registry=registry
            ).labels(**labels)
            for name, (meaning, buckets) in _HISTOGRAMS.items()
        }
        self._adapters = Gauge(
            "vllm:lora_requests_info",
            "The time of the last look; its labels name the adapters.",
            ("running_lora_adapters", "waiting_lora_adapters", "max_lora"),
            registry=registry,
        )
        self._by_model = counter_by("subject_lora:requests", ended, "model", "finished_reason")
        self.refused = counter_by(
            "subject_lora:requests_refused", "Requests turned away.", "reason"
        )
        self._http = counter_by(
            "http_requests", "Responses by their status.", "handler", "method", "status"
        )

    def _observe(self, **values: float) -> None:
        for name, value in values.items():
            self._histograms[name].observe(value)

    def responded(self, method: str, handler: str, status: str) -> None:
        """Count a response of HTTP. `handler` is the route's path."""
        self._http.labels(handler, method, status).inc()

    def stepped(self, n_tokens: int, n_suspended: int) -> None:
        """Count a step of an engine: its tokens, and the requests that gave way before it."""
        self._observe(iteration_tokens_total=n_tokens)
        self._preemptions.inc(n_suspended)

    def asked(self, n: int, max_tokens: int) -> None:
        """Count what a prompt of a body asks for: choices, and tokens of each."""
        self._observe(request_params_n=n, request_params_max_tokens=max_tokens)

    def token(self, times: Times, at: float) -> None:
        """Note a new token of a request."""
        if not times.first:
            times.first = at
            self._observe(time_to_first_token_seconds=at - times.arrived)
        else:
            self._observe(inter_token_latency_seconds=at - times.last)
        times.last = at

    def ended(
        self, model: str, times: Times, reason: str, n_prompt: int, n_new: int, n_restored: int
    ) -> None:
        """Count a request that has ended, and why.

        `times.last` is its end; `n_restored` tokens of the prompt were in the prefix cache.
        """
        self._success[reason].inc()
        self._by_model.labels(model, reason).inc()
        self._prompt_tokens.inc(n_prompt)
        self._generation_tokens.inc(n_new)
        if reason not in ("stop", "length"):
            return
        for queries, hits in self._prefix:
            queries.inc(n_prompt)
            hits.inc(n_restored)
        self._observe(
            e2e_request_latency_seconds=times.last - times.arrived,
            request_queue_time_seconds=times.began - times.arrived,
            request_inference_time_seconds=times.last - times.began,
            request_prefill_time_seconds=(times.first or times.last) - times.began,
            request_prompt_tokens=n_prompt,
            request_generation_tokens=n_new,
            request_max_num_generation_tokens=n_new,
        )
        if times.first:
            self._observe(request_decode_time_seconds=times.last - times.first)
        if n_new > 1:
            each = (times.last - times.first) / (n_new - 1)
            self._observe(
                time_per_output_token_seconds=each, request_time_per_output_token_seconds=each
            )

    def text(self, adapters: list[str], now: float) -> bytes:
        """Everything in Prometheus's text format, `now` in seconds since 1970."""
        self._adapters.clear()
        self._adapters.labels(",".join(adapters), "", str(len(adapters))).set(now)
        return generate_latest(self.registry)
