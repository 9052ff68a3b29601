"""Runs traceai-vllm on every version of vLLM that it supports: ``make compat``, see ``compat/README.md``."""
