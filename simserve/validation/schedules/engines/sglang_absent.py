"""Names of what a driven SGLang scheduler is without."""

from __future__ import annotations

MODEL_NONE = ("is_matryoshka", "self_opened_think_start_ids", "think_end_id", "think_end_ids")
"""Of the model: it does not reason."""

_FALSE = """
enable_hierarchical_cache enable_hicache_storage enable_lmcache enable_hisparse enable_lora enable_unified_memory require_mlp_sync
enable_unified_cache_external_linker enable_skip_finishing_decode enable_continuous_input_polling is_hybrid_swa is_hybrid_ssm
gracefully_exit _engine_paused enable_fpm enable_pdmux attn_dp_enabled enable_lora_overlap_loading
"""

FALSE = _FALSE.split()
"""Features that are off."""

_NONE = """
dllm_config prefill_delayer min_free_slots_delayer hisparse_coordinator decode_offload_manager draft_worker lora_drainer
dynamic_chunk_sizer mm_receiver rust_server external_corpus_manager
"""

NONE = _NONE.split()
"""Parts that a server without them does not have."""

_QUIET = """
scheduler_stage_metrics metrics_reporter metrics_collector output_streamer load_inquirer grammar_manager invariant_checker
load_publisher
"""

QUIET = _QUIET.split()
"""Parts that only report."""
