"""What the engine instrumentation costs, measured side by side in one run: ``python -m benchmarks.engine``."""
