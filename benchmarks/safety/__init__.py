"""What a fault in an instrumentation does to its user: measured for three peers and for traceai-vllm; see README.md."""
