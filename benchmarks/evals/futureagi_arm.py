"""Scores of FutureAGI's local metrics. Runs in an environment of its own, which has ai-evaluation and nothing of ours.

    python benchmarks/evals/futureagi_arm.py < rows.jsonl > scores.jsonl

A row is ``{"response": …, "context": …, "question": …}``; its line of output ``{metric: score or null}``.
"""

import contextlib
import io
import json
import sys
import warnings

METRICS = ("groundedness", "hallucination_score")


def main() -> None:
    warnings.simplefilter("ignore")
    from fi.evals import evaluate

    for line in sys.stdin:
        row = json.loads(line)
        scores = {}
        for metric in METRICS:
            given = {"output": row["response"], "context": row["context"], "query": row.get("question") or "?"}
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    found = evaluate(metric, engine="local", **given)
                    # A failed validation comes back as a completed score of 0.
                    failed = "validation failed" in str(found.reason).lower()
                    scores[metric] = None if failed else found.score
                except Exception as error:
                    scores[metric] = None
                    print(f"{metric}: {type(error).__name__}", file=sys.stderr)
        print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
