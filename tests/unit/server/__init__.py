"""Tests of the HTTP side: no vLLM, real FastAPI."""
