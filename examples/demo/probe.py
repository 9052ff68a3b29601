"""Tells whether vLLM can run a model on this machine, by generating one token. Started by ``demo.py``.

Some kernels are found missing only then. Exit status 0 means yes; 3 means no, with vLLM's reason as the last line.
"""

from __future__ import annotations

import sys

REFUSED = 3


def main() -> int:
    """Load the model named on the command line and generate a token."""
    try:
        from vllm import LLM, SamplingParams

        llm = LLM(sys.argv[1], enforce_eager=True, max_model_len=256)
        llm.generate(["Ready?"], SamplingParams(max_tokens=1), use_tqdm=False)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], flush=True)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
