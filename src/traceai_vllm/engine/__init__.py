"""vLLM's side: where it is hooked, and how its objects become a record. Nothing outside this package knows vLLM."""
