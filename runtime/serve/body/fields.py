"""Fields of OpenAI's, vLLM's and llama-server's requests that this server does not serve.

A field that would change the answer is refused, unless its value changes nothing. Fields that
cannot change an answer are ignored. `schema` has those that are served; docs/api.md lists all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Field → values that change nothing; null never does.
REFUSED: Mapping[str, tuple[Any, ...]] = {
    # OpenAI
    "audio": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "suffix": ("",),
    "verbosity": ("medium",),
    "web_search_options": (),
    # vLLM
    "chat_template": ("",),
    "documents": ([],),
    "guided_whitespace_pattern": ("",),
    "kv_transfer_params": ({},),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "mm_processor_kwargs": ({},),
    "priority": (0,),
    "prompt_embeds": ([], ""),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "structural_tag": ("",),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    # llama-server
    "adaptive_target": (-1,),
    "chat_format": (),
    "chat_parser": ("",),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "generation_prompt": ("",),
    "grammar_lazy": (False,),
    "grammar_triggers": ([],),
    "image_data": ([],),
    "lora": ([],),
    "min_keep": (0,),
    "mirostat": (0,),
    "n_cmpl": (1,),
    "n_discard": (0,),
    "n_indent": (0,),
    "n_predict": (-1,),
    "n_probs": (0,),
    "post_sampling_probs": (False,),
    "preserved_tokens": ([],),
    "reasoning_budget_tokens": (-1,),
    "reasoning_control": (False,),
    "response_fields": ([],),
    "return_progress": (False,),
    "return_tokens": (False,),
    "samplers": (),
    "t_max_predict_ms": (0,),
    "thinking_budget_tokens": (-1,),
    "thinking_forced_open": (False,),
    "timings_per_token": (False,),
    "top_n_sigma": (-1,),
    "typical_p": (1,),
    "verbose": (False,),
    "xtc_probability": (0,),
}
# In vLLM's structured_outputs.
REFUSED_IN_STRUCTURED_OUTPUTS: Mapping[str, tuple[Any, ...]] = {
    "disable_additional_properties": (False,),
    "disable_any_whitespace": (False,),
    "structural_tag": ("",),
    "whitespace_pattern": ("",),
}
# Refused in chats alone: /v1/completions serves them.
REFUSED_IN_CHATS: Mapping[str, tuple[Any, ...]] = {"add_special_tokens": (False,), "echo": (False,)}
# Refused in /v1/completions alone: chats serve them.
REFUSED_IN_COMPLETIONS: Mapping[str, tuple[Any, ...]] = {
    "chat_template_kwargs": ({},),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
# Refused in /v1/responses, beside REFUSED; the last ones are fields that only chats have.
REFUSED_IN_RESPONSES: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "max_tool_calls": (),
    "prompt": (),
    "reasoning": ({}, {"effort": None}, {"effort": "none"}),
    "truncation": ("disabled",),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logprobs": (False,),
    "max_completion_tokens": (),
    "max_tokens": (),
    "messages": (),
    "n": (1,),
    "prompt_logprobs": (),
    "response_format": (),
}
# Refused in /v1/messages, beside REFUSED; the last ones are fields that only chats have.
REFUSED_IN_MESSAGES: Mapping[str, tuple[Any, ...]] = {
    "container": (),
    "context_management": ({},),
    "mcp_servers": ([],),
    "output_config": ({},),
    "output_format": (),
    "thinking": ({"type": "disabled"},),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logprobs": (False,),
    "max_completion_tokens": (),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "prompt_logprobs": (),
    "response_format": (),
    "stop": ([],),
}
# Names, notes, caching, and numbers that belong to refused fields.
HARMLESS = frozenset(
    {
        *("metadata", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "safety_identifier", "service_tier", "store", "user"),
        *("cache_salt", "guided_decoding_backend", "include_reasoning", "request_id"),
        *("spaces_between_special_tokens",),
        *("cache_prompt", "dry_allowed_length", "dry_base", "dry_penalty_last_n"),
        *("dry_sequence_breakers", "dynatemp_exponent", "id_slot", "mirostat_eta"),
        *("mirostat_tau", "n_keep", "parse_tool_calls", "reasoning_format"),
        *("adaptive_decay", "backend_sampling", "grammar_type", "n_cache_reuse"),
        *("reasoning_budget_end_tag", "reasoning_budget_end_tags", "reasoning_budget_message"),
        *("reasoning_budget_start_tag", "sse_ping_interval", "xtc_threshold"),
    }
)
