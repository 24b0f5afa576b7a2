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
_CHOICES = (1, 2, 5, 10, 20)
_ENDED = ("stop", "length", "abort", "error")


@dataclass
class Times:
    """When what happened to a request, by `time.perf_counter`; 0.0 is not yet.

    Attributes:
        arrived: it came.
        began: it first had a slot.
        first, last: its first token, its newest.
    """

    arrived: float
    began: float = 0.0
    first: float = 0.0
    last: float = 0.0


class Metrics:
    """Counters and histograms of a server.

    All have the base's name as `model_name`, as vLLM's dashboards expect; requests are also
    counted by the model that was asked.

    Args:
        base: name of the base.
        load: how busy the engines are.
        cache: what is to be known of the KV cache, by name.
    """

    def __init__(self, base: str, load: Callable[[], Load], cache: Mapping[str, str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = {"model_name": base, "engine": "0"}

        def gauge(name: str, meaning: str, value: Callable[[Load], float]) -> None:
            made = Gauge(name, meaning, labels, registry=self.registry)
            made.labels(**labels).set_function(lambda: value(load()))

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(name, meaning, labels, buckets=buckets, registry=self.registry)
            return made.labels(**labels)

        def counter(name: str, meaning: str) -> Counter:
            return Counter(name, meaning, labels, registry=self.registry).labels(**labels)

        gauge("vllm:num_requests_running", "Requests that hold a slot.", lambda now: now.running)
        gauge("vllm:num_requests_waiting", "Requests that wait for one.", lambda now: now.waiting)
        for name in ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"):  # new and old name
            gauge(name, "KV cache in use, 0 to 1.", lambda now: now.cache_use)
        # Dashboards for vLLM before 1.0 have panels of these; nothing is swapped here.
        gauge("vllm:num_requests_swapped", "Always 0.", lambda now: 0)
        gauge("vllm:cpu_cache_usage_perc", "Always 0.", lambda now: 0)
        config = Gauge(
            "vllm:cache_config_info",
            "Always 1; the labels say how the KV cache is divided.",
            (*labels, *cache),
            registry=self.registry,
        )
        config.labels(**labels, **cache).set(1)
        self._prompt_tokens = counter("vllm:prompt_tokens", "Tokens of prompts.")
        self._generation_tokens = counter("vllm:generation_tokens", "Tokens written.")
        self._preemptions = counter("vllm:num_preemptions", "Lines of batches that gave way.")
        self._prefix = [
            (
                counter(f"vllm:{kind}prefix_cache_queries", "Tokens of prompts looked for."),
                counter(f"vllm:{kind}prefix_cache_hits", "Tokens of them found computed."),
            )
            for kind in ("", "gpu_")
        ]
        success = Counter(
            "vllm:request_success",
            "Requests that ended.",
            (*labels, "finished_reason"),
            registry=self.registry,
        )
        self._success = {
            reason: success.labels(**labels, finished_reason=reason) for reason in _ENDED
        }
        self._first = histogram(
            "vllm:time_to_first_token_seconds", "From arrival to the first token.", _FIRST
        )
        between = "From a token to the next."
        self._between = histogram("vllm:inter_token_latency_seconds", between, _BETWEEN)
        self._per_token = histogram(
            "vllm:time_per_output_token_seconds", "Per token after the first, by request.", _BETWEEN
        )
        self._per_request = histogram(
            "vllm:request_time_per_output_token_seconds", "The same, by its newer name.", _BETWEEN
        )
        whole = "From arrival to the end."
        self._whole = histogram("vllm:e2e_request_latency_seconds", whole, _WHOLE)
        self._queue = histogram("vllm:request_queue_time_seconds", "Until it has a slot.", _WHOLE)
        self._prefill = histogram(
            "vllm:request_prefill_time_seconds", "From then to the first token.", _WHOLE
        )
        self._decode = histogram(
            "vllm:request_decode_time_seconds", "From the first token to the last.", _WHOLE
        )
        self._inference = histogram(
            "vllm:request_inference_time_seconds", "From having a slot to the end.", _WHOLE
        )
        self._prompt_length = histogram("vllm:request_prompt_tokens", "Of a prompt.", _TOKENS)
        self._length = histogram("vllm:request_generation_tokens", "Of an answer.", _TOKENS)
        self._most = histogram("vllm:request_params_max_tokens", "Tokens asked for.", _TOKENS)
        self._longest = histogram(
            "vllm:request_max_num_generation_tokens", "Most tokens of a body's answers.", _TOKENS
        )
        self._choices = histogram("vllm:request_params_n", "Choices asked for.", _CHOICES)
        self._iteration = histogram("vllm:iteration_tokens_total", "Of an engine's step.", _TOKENS)
        self._adapters = Gauge(
            "vllm:lora_requests_info",
            "The time of the last look; its labels name the adapters.",
            ("running_lora_adapters", "waiting_lora_adapters", "max_lora"),
            registry=self.registry,
        )
        self._by_model = Counter(
            "subject_lora:requests",
            "Requests that ended.",
            ("model", "finished_reason"),
            registry=self.registry,
        )
        self.refused = Counter(
            "subject_lora:requests_refused",
            "Requests turned away.",
            ("reason",),
            registry=self.registry,
        )
        self._http = Counter(
            "http_requests",
            "Responses by their status.",
            ("handler", "method", "status"),
            registry=self.registry,
        )

    def responded(self, method: str, handler: str, status: str) -> None:
        """Count a response of HTTP. `handler` is the route's path."""
        self._http.labels(handler, method, status).inc()

    def stepped(self, n_tokens: int, n_suspended: int) -> None:
        """Count a step of an engine: its tokens, and the requests that gave way before it."""
        self._iteration.observe(n_tokens)
        self._preemptions.inc(n_suspended)

    def asked(self, n: int, max_tokens: int) -> None:
        """Count what a prompt of a body asks for: choices, and tokens of each."""
        self._choices.observe(n)
        self._most.observe(max_tokens)

    def token(self, times: Times, at: float) -> None:
        """Note a new token of a request."""
        if not times.first:
            times.first = at
            self._first.observe(at - times.arrived)
        else:
            self._between.observe(at - times.last)
        times.last = at

    def ended(
        self, model: str, times: Times, reason: str, n_prompt: int, n_new: int, n_restored: int
    ) -> None:
        """Count a request that has ended.

        Args:
            model: that was asked.
            times: of the request; `last` is its end.
            reason: why it ended.
            n_prompt, n_new: its tokens.
            n_restored: tokens of the prompt that were found in the prefix cache.
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
        self._whole.observe(times.last - times.arrived)
        self._queue.observe(times.began - times.arrived)
        self._inference.observe(times.last - times.began)
        self._prefill.observe((times.first or times.last) - times.began)
        if times.first:
            self._decode.observe(times.last - times.first)
        self._prompt_length.observe(n_prompt)
        self._length.observe(n_new)
        self._longest.observe(n_new)
        if n_new > 1:
            each = (times.last - times.first) / (n_new - 1)
            self._per_token.observe(each)
            self._per_request.observe(each)

    def text(self, adapters: list[str], now: float) -> bytes:
        """Everything in Prometheus's text format.

        Args:
            adapters: the names under which adapters are served.
            now: seconds since 1970.
        """
        self._adapters.clear()
        self._adapters.labels(",".join(adapters), "", str(len(adapters))).set(now)
        return generate_latest(self.registry)
