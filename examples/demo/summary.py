"""What the demo found: spans per variant and route, changed answers, and whether all spans arrived."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from traceai_vllm import store

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

# A batch has a span of its own above its requests; requests are the spans without a batch size.
PER_ROUTE = """
    SELECT model_variant, quantization_format, route,
           count(*), sum(input_tokens), sum(output_tokens),
           quantile_cont(time_to_first_token, 0.5), quantile_cont(time_to_first_token, 0.99),
           quantile_cont(e2e, 0.5), quantile_cont(e2e, 0.99),
           count(*) FILTER (WHERE error_type IS NOT NULL)
    FROM spans WHERE attributes->>'$."traceai.batch.size"' IS NULL
    GROUP BY ALL ORDER BY min(start_time)
"""

EVALUATORS = ("Groundedness", "HallucinationScore", "JSONValidation", "ToolSelectionAccuracy")
SCORES = ", ".join(f"""avg(CAST(attributes->>'$."gen_ai.evaluation.{name}.score"' AS DOUBLE))""" for name in EVALUATORS)
SCORES_PER_ROUTE = f"""
    SELECT route, quantization_format, {SCORES}
    FROM spans WHERE attributes->>'$."traceai.batch.size"' IS NULL
    GROUP BY ALL ORDER BY route, min(start_time)
"""

COLUMNS = (
    "route",
    "requests",
    "tokens\nin",
    "tokens\nout",
    "TTFT\np50 s",
    "TTFT\np99 s",
    "e2e\np50 s",
    "e2e\np99 s",
    "errors",
)


class Findings:
    """The spans and the answers of one run, read once."""

    def __init__(self, store_folder: Path, answers: dict[str, Path]) -> None:
        connection = store.connect(store_folder)
        self.rows: list[tuple[Any, ...]] = connection.sql(PER_ROUTE).fetchall()
        self.scores: list[tuple[Any, ...]] = connection.sql(SCORES_PER_ROUTE).fetchall()
        self.stored = span_ids(connection)
        self.answers = {arm: read_answers(path) for arm, path in answers.items()}

    def span_tables(self) -> list[Table]:
        """Requests, tokens, latency and errors per route, a table for each variant, from the spans alone."""
        tables = []
        for (variant, weights), rows in groupby(self.rows, key=lambda row: row[:2]):
            table = titled(f"{variant}, {weights} weights (from the spans)", COLUMNS)
            for _, _, route, *counts in rows:
                times = [seconds(value) for value in counts[3:7]]
                table.add_row(route, *map(str, counts[:3]), *times, str(counts[7]))
            tables.append(table)
        return tables

    def score_table(self) -> Table:
        """The mean score of every evaluator, for each route and variant; a dash where it had nothing to check."""
        columns = (
            "route",
            "weights",
            "Grounded-\nness",
            "Hallucination-\nScore",
            "JSON-\nValidation",
            "ToolSelection-\nAccuracy",
        )
        table = titled("scores, 1 is best (from the spans)", columns)
        for route, weights, *scores in self.scores:
            table.add_row(route, weights, *("-" if score is None else f"{score:.2f}" for score in scores))
        return table

    def answer_table(self) -> Table:
        """How many answers differ, and how many hold what a right one must."""
        columns = ("route", "requests", "answers that differ", "right, baseline", "right, candidate")
        table = titled("both variants, the same prompts (from the answers)", columns)
        for route, pairs in self.pairs_by_route().items():
            differ = sum(left["answer"] != right["answer"] for left, right in pairs)
            rights = [str(sum(pair[arm]["has_expected"] for pair in pairs)) for arm in (0, 1)]
            table.add_row(route, str(len(pairs)), str(differ), *rights)
        return table

    def pairs_by_route(self) -> dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]:
        """Both answers to each prompt."""
        candidate = self.answers["candidate"]
        routes = defaultdict(list)
        for key, answer in self.answers["baseline"].items():
            if key in candidate:
                routes[answer["route"]].append((answer, candidate[key]))
        return routes

    def problems(self, received: list[str], prompts: int) -> list[str]:
        """What is wrong with the run, in words; empty when all is well."""
        found = [
            f"{arm}: {len(answers)} answers to {prompts} prompts"
            for arm, answers in self.answers.items()
            if len(answers) != prompts
        ]
        requests, errors = sum(row[3] for row in self.rows), sum(row[10] for row in self.rows)
        if requests != prompts * len(self.answers):
            found.append(f"{requests} request spans for {prompts * len(self.answers)} requests")
        found += [
            f"{name} scored no answer"
            for name, scores in zip(EVALUATORS, zip(*(row[2:] for row in self.scores), strict=True), strict=True)
            if not any(score is not None for score in scores)
        ]
        if errors:
            found.append(f"{errors} requests ended in an error")
        if len({row[0] for row in self.rows}) != len(self.answers) or any(None in row[:3] for row in self.rows):
            found.append("some spans do not say which variant, format or route they belong to")
        if sorted(received) != sorted(self.stored):
            found.append(f"the receiver got {len(received)} spans, the store has {len(self.stored)}: not the same ones")
        return found


def titled(title: str, columns: tuple[str, ...]) -> Table:
    """An empty table whose first column is text and whose others are numbers."""
    # Narrow enough for a terminal of 80 columns.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column(columns[0], no_wrap=True)
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def span_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The ids of all spans in the store."""
    return [row[0] for row in connection.sql("SELECT span_id FROM spans").fetchall()]


def read_answers(path: Path) -> dict[str, dict[str, Any]]:
    """Answers by prompt id."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {answer["id"]: answer for answer in map(json.loads, lines)}


def seconds(value: float | None) -> str:
    """A time for a person, to three digits."""
    return "-" if value is None else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
