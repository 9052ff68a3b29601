"""``python -m traceai_vllm.cli``: the same as ``traceai-vllm``."""

import sys

from traceai_vllm.cli.main import main

sys.exit(main())
