"""One comparison, or the query that it is measured against, in a process of its own: prints time, memory, decision."""

from __future__ import annotations

import json
import resource
import sys
import time

POLICY = """
version: 1
measures:
  Groundedness: {margin: 0.03}
  JSONValidation: {margin: 0.03}
  errors: {margin: 0.02}
  latency.p50: {margin: 0.1}
guard: [all, route, slice]
"""
# The least that could do: join the arms, then rates and quantiles by route and slice.
FLOOR = """
WITH arms AS (SELECT "traceai.pair.id" AS pair, "traceai.pair.arm" AS arm, route, "traceai.slices"[1] AS slice,
    "gen_ai.evaluation.Groundedness.passed" AS g, "gen_ai.evaluation.JSONValidation.passed" AS j,
    status = 'ERROR' AS e, "gen_ai.latency.e2e" AS l FROM read_parquet('{folder}/*.parquet'))
SELECT b.route, b.slice, count(*), avg((NOT b.g)::INT), avg((NOT c.g)::INT), avg((NOT b.j)::INT), avg((NOT c.j)::INT),
    avg(b.e::INT), avg(c.e::INT), quantile_cont(b.l, [0.5, 0.99]), quantile_cont(c.l, [0.5, 0.99])
FROM arms b JOIN arms c ON b.pair = c.pair AND b.arm = 'baseline' AND c.arm = 'candidate' GROUP BY ALL
"""


def main() -> int:
    what, folder = sys.argv[1:]
    begun = time.perf_counter()
    decision = _floor(folder) if what == "floor" else _compare(folder)
    seconds = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "memory_kib": memory, "decision": decision}))
    return 0


def _floor(folder: str) -> str:
    import duckdb

    duckdb.sql(FLOOR.format(folder=folder)).fetchall()
    return ""


def _compare(folder: str) -> str:
    from traceai_vllm.release import Judgement, compare, decision_of, decision_text, open_source, parse_policy

    return decision_text(decision_of(Judgement(compare(open_source(folder), parse_policy(POLICY)))))


if __name__ == "__main__":
    sys.exit(main())
