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
# The same aggregates by hand, without evidence, books or order of arrival: the clean pairs, then every figure that the
# comparison has of all traffic, and the guarded ones by route and by slice.
PAIRS = """
CREATE TEMP TABLE pairs AS
WITH arms AS (SELECT "traceai.pair.id" AS pair, "traceai.pair.arm" AS arm, route, "traceai.slices"[1] AS slice,
    "gen_ai.conversation.id" AS session, prompt_version AS version, "gen_ai.request.temperature" AS temperature,
    NOT "gen_ai.evaluation.Groundedness.passed" AS g, NOT "gen_ai.evaluation.JSONValidation.passed" AS j,
    "gen_ai.evaluation.Groundedness.score"::FLOAT AS gs, "gen_ai.evaluation.JSONValidation.score"::FLOAT AS js,
    status = 'ERROR' AS e, coalesce("error.type" = 'timeout', false) AS t, "gen_ai.usage.output_tokens" AS tokens,
    "gen_ai.latency.e2e"::FLOAT AS l, "gen_ai.latency.time_to_first_token"::FLOAT AS f FROM read_parquet('{folder}/*'))
SELECT b.route, b.slice, b.session, b.g, c.g AS g2, b.j, c.j AS j2, b.gs, c.gs AS gs2, b.js, c.js AS js2, b.e,
    c.e AS e2, b.t, c.t AS t2, b.tokens, c.tokens AS tokens2, b.l, c.l AS l2, b.f, c.f AS f2,
    (b.l - b.f) / nullif(b.tokens - 1, 0) AS i, (c.l - c.f) / nullif(c.tokens - 1, 0) AS i2
FROM arms b JOIN arms c ON b.pair = c.pair AND b.arm = 'baseline' AND c.arm = 'candidate'
WHERE b.version = c.version AND b.temperature = c.temperature
"""
RATES = "count(*), avg(g::INT), avg(g2::INT), avg(j::INT), avg(j2::INT), avg(e::INT), avg(e2::INT)"
ALL = "count(DISTINCT session), avg(gs), avg(gs2), avg(js), avg(js2), avg(t::INT), avg(t2::INT), avg(tokens)"
QUERIES = (
    f"SELECT {RATES}, {ALL}, avg(tokens2), "
    + ", ".join(f"quantile_cont({time}, [0.5, 0.95, 0.99])" for time in ("l", "l2", "f", "f2", "i", "i2"))
    + " FROM pairs",
    *(
        f"SELECT {part}, {RATES}, quantile_cont(l, 0.5), quantile_cont(l2, 0.5) FROM pairs GROUP BY {part}"
        for part in ("route", "slice")
    ),
)


def main() -> int:
    what, folder = sys.argv[1:]
    begun = time.perf_counter()
    decision = _floor(folder) if what == "floor" else _compare(folder)
    seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "memory_kib": used.ru_maxrss}
    print(json.dumps({**told, "decision": decision}))
    return 0


def _floor(folder: str) -> str:
    import duckdb

    duckdb.execute(PAIRS.format(folder=folder))
    for query in QUERIES:
        duckdb.execute(query).fetchall()
    return ""


def _compare(folder: str) -> str:
    from traceai_vllm.release import Judgement, compare, decision_of, decision_text, open_source, parse_policy

    return decision_text(decision_of(Judgement(compare(open_source(folder), parse_policy(POLICY)))))


if __name__ == "__main__":
    sys.exit(main())
