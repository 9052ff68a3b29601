"""Checks of two answers to one request, the baseline's and the candidate's: what quantization took away.

    from traceai_vllm.evals.paired import PairedSettings, run_paired_checks

    settings = PairedSettings(required_wording={"claims": ["This is not legal advice."]})
    for result in run_paired_checks(baseline_text, candidate_text, settings, route="claims"):
        print(result.name, result.score, result.explanation)

They are cheap and deterministic and read nothing but the two answers. A score of 1 says that nothing of the baseline's
answer was lost; whether that answer was good in the first place is not their business.
"""

from traceai_vllm.evals.paired.answer import Answer
from traceai_vllm.evals.paired.run import CHECKS, PairedCheck, run_paired_checks
from traceai_vllm.evals.paired.settings import PairedSettings

__all__ = ["CHECKS", "Answer", "PairedCheck", "PairedSettings", "run_paired_checks"]
