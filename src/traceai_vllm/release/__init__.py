"""The release decision: pairs of answers, compared slice by slice and judged by a written policy.

    from traceai_vllm.release import Judgement, compare, decision_of, load_policy, open_source

    judgement = Judgement(compare(open_source("spans"), load_policy("policy.yaml")))
    print(judgement.action.value, decision_of(judgement).routes)

Reading, pairing and counting are Ibis expressions, run by DuckDB or another database; only the columns of clean pairs
that statistics need come into this process. Needs ``pip install 'traceai-vllm[release]'``.
"""

from traceai_vllm.release.comparison import Comparison, compare
from traceai_vllm.release.deciding import Judgement
from traceai_vllm.release.decision import decision_of, decision_text
from traceai_vllm.release.policy import Policy
from traceai_vllm.release.policy_file import PolicyError, load_policy, parse_policy
from traceai_vllm.release.sources import Source, SourceError, open_source
from traceai_vllm.release.wording import verdict_sentence, what_would_change_it

__all__ = [
    "Comparison",
    "Judgement",
    "Policy",
    "PolicyError",
    "Source",
    "SourceError",
    "compare",
    "decision_of",
    "decision_text",
    "load_policy",
    "open_source",
    "parse_policy",
    "verdict_sentence",
    "what_would_change_it",
]
