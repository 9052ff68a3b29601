"""Models behind Groundedness and HallucinationScore, instead of the embedded check.

    from traceai_vllm.evals import Groundedness
    from traceai_vllm.evals.backends import LLMJudge, NLIChecker, TokenDetector

    Groundedness(checker=TokenDetector("KRLabsOrg/lettucedect-base-modernbert-en-v1"))
    Groundedness(checker=NLIChecker("cross-encoder/nli-deberta-v3-base"))
    Groundedness(checker=LLMJudge("http://localhost:8000/v1", model="llama-3.1-8b"))

A model is loaded when it is first asked, in the process that asks: evaluators can be sent to other processes.
"""

from traceai_vllm.evals.backends.judge import JudgeUsage, LLMJudge
from traceai_vllm.evals.backends.nli import NLIChecker
from traceai_vllm.evals.backends.tokens import TokenDetector

__all__ = ["JudgeUsage", "LLMJudge", "NLIChecker", "TokenDetector"]
