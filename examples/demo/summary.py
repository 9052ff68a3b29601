"""What the demo found: spans per variant and route, scores, changed answers, and whether all spans arrived."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from traceai_vllm import store

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    from settings import Place
    from traffic import Answer

EVALUATORS = ("Groundedness", "HallucinationScore", "JSONValidation", "ToolSelectionAccuracy")

# The engines' spans: one for each request that a server got, repeats for the noise floor among them.
PER_ROUTE = """
    SELECT model_variant, quantization_format, route,
           count(*), sum(input_tokens), sum(output_tokens),
           quantile_cont(time_to_first_token, 0.5), quantile_cont(time_to_first_token, 0.99),
           quantile_cont(e2e, 0.5), quantile_cont(e2e, 0.99),
           count(*) FILTER (WHERE error_type IS NOT NULL)
    FROM spans WHERE scope = 'traceai_vllm'
    GROUP BY ALL ORDER BY model_variant, min(start_time)
"""
ARM = """attributes->>'$."traceai.pair.arm"'"""
MEANS = ", ".join(f"""avg(CAST(attributes->>'$."gen_ai.evaluation.{name}.score"' AS DOUBLE))""" for name in EVALUATORS)
SCORES = f"""
    SELECT route, quantization_format, {MEANS} FROM spans WHERE {ARM} IN ('baseline', 'candidate')
    GROUP BY route, quantization_format, {ARM} ORDER BY route, {ARM}
"""
SAME = """CAST(attributes->>'$."traceai.pair.same_answer"' AS BOOLEAN)"""
CHANGED = f"""
    SELECT route,
           count(*) FILTER (WHERE {ARM} = 'candidate'), count(*) FILTER (WHERE {ARM} = 'candidate' AND NOT {SAME}),
           count(*) FILTER (WHERE {ARM} = 'baseline_repeat'),
           count(*) FILTER (WHERE {ARM} = 'baseline_repeat' AND NOT {SAME})
    FROM spans WHERE {ARM} IS NOT NULL GROUP BY route ORDER BY route
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
    """The spans of one run, read once.

    Args:
        place: where they are.
        answers: what the users got.
        books: the gateway's books.
    """

    def __init__(self, place: Place, answers: list[Answer], books: list[dict[str, int]]) -> None:
        engines, gateway = store.connect(place.engines), store.connect(place.store)
        self.rows: list[tuple[Any, ...]] = engines.sql(PER_ROUTE).fetchall()
        self.scores: list[tuple[Any, ...]] = gateway.sql(SCORES).fetchall()
        self.changed: list[tuple[Any, ...]] = gateway.sql(CHANGED).fetchall()
        self.stored = span_ids(engines) + span_ids(gateway)
        self.answers = answers
        self.books = books

    def tables(self) -> list[Table]:
        """All tables."""
        return [*self.span_tables(), self.score_table(), self.answer_table()]

    def span_tables(self) -> list[Table]:
        """Requests, tokens, latency and errors per route, a table for each variant."""
        tables = []
        for (variant, weights), rows in groupby(self.rows, key=lambda row: row[:2]):
            table = titled(f"{variant}, {weights} weights (from the engine's spans)", COLUMNS)
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
        table = titled("scores, 1 is best (from the gateway's spans)", columns)
        for route, weights, *scores in self.scores:
            table.add_row(route, weights, *("-" if score is None else f"{score:.2f}" for score in scores))
        return table

    def answer_table(self) -> Table:
        """How many answers of the candidate differ, how many of the baseline's own repeats, how many users liked."""
        columns = (
            "route",
            "pairs",
            "candidate\ndiffers",
            "repeats of\nthe baseline",
            "of these\ndiffer",
            "users got a\nright answer",
        )
        table = titled("the same request, two answers (from the gateway's spans)", columns)
        right: dict[str, int] = {}
        for answer in self.answers:
            route = answer.prompt["route"]
            right[route] = right.get(route, 0) + answer.is_right
        for route, *counts in self.changed:
            table.add_row(route, *map(str, counts), str(right.get(route, 0)))
        return table

    def problems(self, received: list[str]) -> list[str]:
        """What is wrong with the run, in words; empty when all is well."""
        found = []
        requests, errors = sum(row[3] for row in self.rows), sum(row[10] for row in self.rows)
        repeats = sum(row[3] for row in self.changed)
        if requests != 2 * len(self.answers) + repeats:
            found.append(f"{requests} spans of engines for {2 * len(self.answers) + repeats} requests")
        if errors:
            found.append(f"{errors} requests ended in an error")
        if len({row[0] for row in self.rows}) != 2 or any(None in row[:3] for row in self.rows):
            found.append("some spans do not say which variant, format or route they belong to")
        if any(book["difference"] for book in self.books):
            found.append(f"the gateway's books do not add up: {self.books}")
        found += [
            f"{name} scored no answer"
            for name, scores in zip(EVALUATORS, zip(*(row[2:] for row in self.scores), strict=True), strict=True)
            if not any(score is not None for score in scores)
        ]
        if missing := set(self.stored) - set(received):
            found.append(f"{len(missing)} of the {len(self.stored)} spans in the stores did not arrive at the receiver")
        return found


def arms_stored(folder: Path) -> int:
    """How many answers of either arm are in the store, with whatever scores they have."""
    if not any(folder.glob("*.jsonl")):
        return 0
    query = f"SELECT count(*) FROM spans WHERE {ARM} IN ('baseline', 'candidate')"
    return int(store.connect(folder).sql(query).fetchall()[0][0])


def titled(title: str, columns: tuple[str, ...]) -> Table:
    """An empty table whose first column is text and whose others are numbers."""
    # Narrow enough for a terminal of 80 columns.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column(columns[0], no_wrap=True)
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def span_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The ids of all spans in a store."""
    return [row[0] for row in connection.sql("SELECT span_id FROM spans").fetchall()]


def seconds(value: float | None) -> str:
    """A time for a person, to three digits."""
    return "-" if value is None else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
