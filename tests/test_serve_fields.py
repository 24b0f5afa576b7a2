"""Each field that a client may send is served, refused by its name, or harmless."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.settings import PROJECT_DIR

pytest.importorskip("fastapi")

from runtime.serve.anthropic.body import MessagesBody
from runtime.serve.body.fields import (
    HARMLESS,
    REFUSED,
    REFUSED_IN_CHATS,
    REFUSED_IN_COMPLETIONS,
    REFUSED_IN_MESSAGES,
    REFUSED_IN_RESPONSES,
)
from runtime.serve.body.schema import ChatBody, CompletionBody, Sampling
from runtime.serve.errors import ApiError, explain_invalid
from runtime.serve.responses.body import ResponseBody, chat_body, messages_of

# vLLM's from its protocol, llama-server's from server-schema.cpp and README of llama.cpp as in
# llama-cpp-python 0.3.36. OpenAI's, so that they are tested without its package; a test compares.
OPENAI_CHAT = """
messages model audio frequency_penalty function_call functions logit_bias logprobs
max_completion_tokens max_tokens metadata modalities n parallel_tool_calls moderation prediction
presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
response_format
safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
top_logprobs top_p user verbosity web_search_options
"""
OPENAI_COMPLETIONS = """
model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed
stop stream stream_options suffix temperature top_p user
"""
OPENAI_RESPONSES = """
access_programs background background_options context_management conversation image include input
instructions max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls
previous_response_id prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning
safety_identifier service_tier store stream stream_options temperature text tool_choice tools
top_logprobs top_p truncation user
"""
VLLM = """
use_beam_search top_k min_p repetition_penalty length_penalty stop_token_ids
include_stop_str_in_output ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens
truncate_prompt_tokens prompt_logprobs allowed_token_ids bad_words add_special_tokens documents
chat_template chat_template_kwargs mm_processor_kwargs guided_json guided_regex guided_choice
guided_grammar structural_tag guided_decoding_backend guided_whitespace_pattern structured_outputs
priority request_id logits_processors return_tokens_as_token_ids return_token_ids cache_salt
kv_transfer_params vllm_xargs include_reasoning response_format
"""
VLLM_CHAT = "best_of echo add_generation_prompt continue_final_message"
VLLM_COMPLETIONS = "prompt_embeds"
LLAMA_SERVER = """
temperature dynatemp_range dynatemp_exponent top_k top_p min_p n_predict n_indent n_keep n_discard
n_cmpl stream stop typical_p repeat_penalty repeat_last_n presence_penalty frequency_penalty
dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers
xtc_probability xtc_threshold mirostat mirostat_tau mirostat_eta grammar json_schema seed
ignore_eos logit_bias n_probs min_keep t_max_predict_ms id_slot cache_prompt return_tokens samplers
timings_per_token return_progress post_sampling_probs response_fields lora image_data top_n_sigma
reasoning_format thinking_forced_open parse_tool_calls adaptive_decay adaptive_target
backend_sampling chat_format chat_parser generation_prompt grammar_lazy grammar_triggers
grammar_type n_cache_reuse preserved_tokens reasoning_budget_end_tag reasoning_budget_end_tags
reasoning_budget_message reasoning_budget_start_tag reasoning_budget_tokens reasoning_control
sse_ping_interval thinking_budget_tokens verbose
"""
CHAT = {*(OPENAI_CHAT + VLLM + LLAMA_SERVER).split(), *VLLM_CHAT.split()}
COMPLETIONS = {*(OPENAI_COMPLETIONS + VLLM + LLAMA_SERVER).split(), *VLLM_COMPLETIONS.split()}

MESSAGES = [{"role": "user", "content": "Name a colour."}]
BODIES: dict[type[Sampling], dict[str, Any]] = {
    ChatBody: {"model": "demo", "messages": MESSAGES},
    CompletionBody: {"model": "demo", "prompt": "A colour:"},
}
REFUSED_BY: dict[type[Sampling], dict[str, tuple[Any, ...]]] = {
    ChatBody: {**REFUSED, **REFUSED_IN_CHATS},
    CompletionBody: {**REFUSED, **REFUSED_IN_COMPLETIONS},
}


@pytest.mark.parametrize(("body", "known"), [(ChatBody, CHAT), (CompletionBody, COMPLETIONS)])
def test_each_field_is_in_one_column(body: type[Sampling], known: set[str]) -> None:
    columns = (set(body.model_fields), set(REFUSED_BY[body]), set(HARMLESS))
    for field in known:
        assert sum(field in column for column in columns) == 1, field
    for field in body.model_fields:  # what is served here is in no other column
        assert sum(field in column for column in columns) == 1, field


def test_openais_fields_are_those_of_its_own_client() -> None:
    pytest.importorskip("openai")
    from openai.types import completion_create_params as completions
    from openai.types.chat import completion_create_params as chat
    from openai.types.responses import response_create_params as responses

    for listed, module, name in (
        (OPENAI_CHAT, chat, "Completion"),
        (OPENAI_COMPLETIONS, completions, "Completion"),
        (OPENAI_RESPONSES, responses, "Response"),
    ):
        fields: set[str] = set()
        for kind in ("NonStreaming", "Streaming"):
            params = getattr(module, f"{name}CreateParams{kind}")
            fields |= {*params.__required_keys__, *params.__optional_keys__}
        assert fields <= set(listed.split())


def test_each_field_of_a_response_is_in_one_column() -> None:
    served = set(ResponseBody.model_fields)
    columns = (served, {*REFUSED_IN_RESPONSES, *REFUSED}, HARMLESS - served)
    harmless = {"stream_options", "access_programs"}  # here alone
    for field in {*OPENAI_RESPONSES.split(), *ResponseBody.model_fields} - harmless:
        assert sum(field in column for column in columns) == 1, field
    sent = {"model": "demo", "input": "Hi", **dict.fromkeys(HARMLESS | harmless, "anything")}
    sent |= {"metadata": {}, "store": False}
    body = ResponseBody.model_validate(sent)
    assert chat_body(body, sent, messages_of(body)).messages[0].text == "Hi"


def test_what_would_change_a_response_is_refused_by_its_name() -> None:
    for field, neutral in REFUSED_IN_RESPONSES.items():
        for value in (None, *neutral):
            ResponseBody.model_validate({"model": "demo", "input": "Hi", field: value})
        for value in ("strange", 17.5, ["red"], {"type": "object"}):
            with pytest.raises(ValidationError) as caught:
                ResponseBody.model_validate({"model": "demo", "input": "Hi", field: value})
            assert explain_invalid(caught.value.errors()).param == field
    for field in REFUSED:  # a chat's are those of responses, too
        sent = {"model": "demo", "input": "Hi", field: ["strange"]}
        body = ResponseBody.model_validate(sent)
        with pytest.raises(ApiError) as refused:
            chat_body(body, sent, messages_of(body))
        assert refused.value.param == field


@pytest.mark.parametrize("body", BODIES)
def test_what_would_change_the_answer_is_refused_by_its_name(body: type[Sampling]) -> None:
    for field, neutral in REFUSED_BY[body].items():
        for value in (None, *neutral):
            body.model_validate({**BODIES[body], field: value})
        for value in ("strange", 17.5, ["red", "blue"], {"type": "object"}):
            with pytest.raises(ValidationError) as caught:
                body.model_validate({**BODIES[body], field: value})
            error = explain_invalid(caught.value.errors())
            assert (error.status_code, error.param, error.code) == (400, field, "not_served")
            assert field in str(error.detail)


@pytest.mark.parametrize("body", BODIES)
def test_what_is_harmless_is_accepted(body: type[Sampling]) -> None:
    body.model_validate({**BODIES[body], **dict.fromkeys(HARMLESS, "anything")})


def test_the_page_lists_all_fields() -> None:
    page = (PROJECT_DIR / "docs" / "api.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (served|refused|harmless) \| (.+) \|$", page, re.MULTILINE))
    named = {row: set(re.findall(r"`(\w+)`", text)) for row, text in rows.items()}
    assert named == {
        "served": {*ChatBody.model_fields, *CompletionBody.model_fields},
        "refused": {*REFUSED, *REFUSED_IN_CHATS} - set(CompletionBody.model_fields),
        "harmless": set(HARMLESS),
    }
    rows = re.findall(r"^\| (?:served|refused) here \| (.+) \|$", page, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", text)) for text in rows] == [
        *(set(ResponseBody.model_fields), set(REFUSED_IN_RESPONSES)),
        *(set(MessagesBody.model_fields), set(REFUSED_IN_MESSAGES)),
    ]
