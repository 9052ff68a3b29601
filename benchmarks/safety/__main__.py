"""Writes ``docs/safety.md`` from what was measured: ``python -m benchmarks.safety``."""

from benchmarks.safety.write_docs import PAGE, page

PAGE.write_text(page())
print(f"{PAGE} is written")
