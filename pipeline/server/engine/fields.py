"""Fields of requests that other servers have and this one does not honour: which change the text,
and are refused by name, and which ask for nothing here.

The fields that are honoured are those of the models in `protocol`. What neither knows is refused
as OpenAI refuses it: a field that is passed over in silence gives another text than was asked for.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.server.errors import ApiError, bad_request

_UNKNOWN_CHECKED = 32  # unknown fields: a request may have any number of them
_LONGEST_NAME = 64  # characters of one that are looked at and repeated

# Fields that would change the text, or what is told of it, and the values that ask for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    # OpenAI
    "suffix": ("",),
    "best_of": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "echo": (False,),
    "top_logprobs": (),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    # vLLM and SGLang
    "guided_json": (),
    "guided_regex": (),
    "guided_grammar": (),
    "guided_choice": ([],),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "structured_outputs": ({},),
    "structural_tag": (),
    "regex": ("",),
    "ebnf": ("",),
    "min_tokens": (0,),
    "truncate_prompt_tokens": (),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "early_stopping": (False,),
    "prompt_logprobs": (),
    "prompt_embeds": (),
    "logits_processors": ([],),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "no_stop_trim": (False,),
    "stop_regex": ("", []),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "add_special_tokens": (False,),
    "add_generation_prompt": (True,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "lora_path": (),
    "custom_logit_processor": (),
    "custom_params": (),
    "separate_reasoning": (False,),
    "thinking_token_budget": (),
    "mm_processor_kwargs": ({},),
    "vllm_xargs": ({},),
    # llama.cpp
    "n_predict": (),
    "n_keep": (0,),
    "n_probs": (0,),
    "post_sampling_probs": (False,),
    "min_keep": (0,),
    "repeat_penalty": (1,),
    "repeat_last_n": (),
    "penalize_nl": (False,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "top_n_sigma": (-1,),
    "mirostat": (0,),
    "samplers": (),
    "grammar": ("",),
    "json_schema": ({},),
    "reasoning_format": ("none", "auto"),
    "parse_tool_calls": (False,),
    "input_prefix": ("",),
    "input_suffix": ("",),
    "lora": ([],),
    # Ollama
    "options": ({},),
    "format": ("",),
    "num_predict": (),
    "num_ctx": (),
    "system": ("",),
    "template": ("",),
    "context": ([],),
    "images": ([],),
    "raw": (False,),
    "think": (False,),
    # transformers and TGI
    "max_new_tokens": (),
    "max_length": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "do_sample": (True,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "eos_token_id": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "guidance_scale": (1,),
    "truncate": (),
    "watermark": (False,),
    "decoder_input_details": (False,),
    "return_full_text": (False,),
    "adapter_id": (),
    "inputs": (),
    "parameters": ({},),
    # text-generation-webui, KoboldCpp, TabbyAPI
    "tfs": (1,),
    "tfs_z": (1,),
    "top_a": (0,),
    "smoothing_factor": (0,),
    "dynamic_temperature": (False,),
    "temperature_last": (False,),
    "sampler_order": (),
    "sampler_priority": (),
    "rep_pen": (1,),
    "ban_eos_token": (False,),
    "add_bos_token": (True,),
    "custom_token_bans": ("",),
    "banned_tokens": ([], ""),
    "banned_strings": ([],),
    "negative_prompt": ("",),
    "grammar_string": ("",),
    "instruction_template": (),
    "mode": ("instruct",),
    "character": (),
    "preset": (),
    "truncation_length": (),
    "auto_max_new_tokens": (False,),
    # Anthropic, Mistral, Cohere, Gemini and others
    "stop_sequences": ([],),
    "thinking": ({"type": "disabled"},),
    "reasoning": (),
    "enable_thinking": (),
    "safe_prompt": (False,),
    "random_seed": (),
    "max_output_tokens": (),
    "safety_settings": ([],),
    "input": (),
    "instructions": ("",),
    "connectors": ([],),
    "search_options": (),
    "plugins": ([],),
    "transforms": ([],),
    "models": ([],),
}

# Fields that change nothing here: who asks, what is kept or billed elsewhere, and how fast.
HARMLESS = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "parallel_tool_calls", "moderation",
    "priority", "request_id", "rid", "cache_salt", "spaces_between_special_tokens", "detokenize",
    "guided_decoding_disable_any_whitespace", "include_reasoning", "stream_reasoning",
    "return_hidden_states", "kv_transfer_params", "add_special_tokens_to_output", "session_params",
    "cache_prompt", "id_slot", "slot_id", "timings_per_token", "return_progress", "return_tokens",
    "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers",
    "xtc_threshold", "dynatemp_exponent", "mirostat_tau", "mirostat_eta", "n_cache_reuse",
    "speculative", "n_indent", "keep_alive", "details", "use_cache", "top_n_tokens", "provider",
    "usage", "transcript", "extra_headers", "timeout",
})  # fmt: skip

# What a refused field is called here.
_OURS = {
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "max_output_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "rep_pen": "repetition_penalty",
    "stop_sequences": "stop",
    "random_seed": "seed",
    "num_return_sequences": "n",
    "eos_token_id": "stop_token_ids",
    "ban_eos_token": "ignore_eos",
    "enable_thinking": "chat_template_kwargs",
    "system": "messages",
    "instructions": "messages",
    "inputs": "prompt",
    "input": "prompt",
}


def refuse_other_fields(
    given: Mapping[str, Any], honoured: Collection[str], elsewhere: Mapping[str, str]
) -> None:
    """Refuse what is asked for and not done; `elsewhere` has the fields of other routes.

    Raises:
        ApiError: 400, names the first such field.
    """
    not_called = {"tools": "tool_choice", "functions": "function_call"}
    for name, neutral in REFUSED.items():
        if name not in given or name in honoured or given[name] in neutral:
            continue
        if name == "best_of" and given[name] == given.get("n", 1):
            continue
        if name in not_called and given.get(not_called[name]) == "none":
            continue
        raise _unsupported(name, elsewhere)
    unknown = sorted(given.keys() - {*honoured} - REFUSED.keys() - HARMLESS)
    for name in unknown[:_UNKNOWN_CHECKED]:
        if name in elsewhere:
            raise _unsupported(name, elsewhere)
        raise _unknown(name[:_LONGEST_NAME], honoured)


def _unsupported(name: str, elsewhere: Mapping[str, str]) -> ApiError:
    remedy = f"use {_OURS[name]}" if name in _OURS else "leave it out"
    if name in elsewhere:
        remedy = f"it is a field of {elsewhere[name]}"
    return bad_request(
        f"{name} is not supported here.", name, code="unsupported_parameter", remedy=remedy
    )


def _unknown(name: str, honoured: Collection[str]) -> ApiError:
    near = difflib.get_close_matches(name, [*honoured], 1, 0.75)
    meant = f" Did you mean {near[0]}?" if near else ""
    return bad_request(f"Unknown parameter: {name!r}.{meant}", name, code="unknown_parameter")
