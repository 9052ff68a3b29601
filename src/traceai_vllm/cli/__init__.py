"""The command line, ``traceai-vllm``: one module for each command, imported when it is asked for."""
