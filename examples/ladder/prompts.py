"""The prompts of the ladder: the demo's, and more of the kinds that quantization harms, each with what is right.

Short answers to questions whose answer is known: numbers and names from a retrieved context, in four languages, JSON
held to a schema, and code. Made from tables, so that they can be read at a glance and are the same on every run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(__file__).resolve().parent.parent / "demo" / "prompts"
# Requests on this route are regulated: a slice of its own, which a policy may call critical.
REGULATED_ROUTE = "claims"

_KINDS = ("dental", "vision", "hearing", "travel", "maternity", "physiotherapy", "surgery", "pharmacy")
_DAYS = (30, 45, 60, 75, 90, 120, 150, 180, 210, 240, 270, 365)
_NAMES = (
    "Oluwaseun Adeyemi", "Ingeborg Halvorsen", "Tomasz Wyszynski", "Xochitl Barrientos", "Ngaio Parata",
    "Eirlys Prydderch", "Dragoslav Petkov", "Aoife Ni Bhriain", "Svetozar Milic", "Thandeka Khumalo", "Yevgenia Zhuk",
    "Kaimana Kealoha",
)  # fmt: skip
_TEAMS = ("billing", "returns", "warranty", "export", "repairs")
_CITIES = ("Graz", "Tartu", "Oulu", "Cork", "Bergamo", "Ghent", "Porto")
_SHOPS = ("Helio Supplies", "Norra Tools", "Bluefin Books", "Casa Verde", "Ostrava Steel", "Kite & Co")
_CURRENCIES = ("EUR", "USD", "GBP", "CHF")
_LANGUAGES = {
    "es": (
        "El plan {p} cubre el dentista después de {d} días.",
        "¿Después de cuántos días cubre el plan {p} el dentista?",
    ),
    "fr": (
        "Le plan {p} couvre le dentiste après {d} jours.",
        "Après combien de jours le plan {p} couvre-t-il le dentiste ?",
    ),
    "de": ("Tarif {p} zahlt den Zahnarzt nach {d} Tagen.", "Nach wie vielen Tagen zahlt Tarif {p} den Zahnarzt?"),
}
_FUNCTIONS = {
    "square": "returns the square of n",
    "is_odd": "tells whether n is odd",
    "maximum": "returns the larger of a and b",
    "first": "returns the first item of a list",
    "last": "returns the last item of a list",
    "double": "returns twice n",
    "total": "returns the sum of a list",
    "average": "returns the mean of a list",
    "negate": "returns minus n",
    "upper": "returns a string in upper case",
    "is_empty": "tells whether a list is empty",
    "cube": "returns the cube of n",
    "minimum": "returns the smaller of a and b",
    "join_words": "joins words with spaces",
    "count": "returns the length of a list",
    "difference": "returns a minus b",
    "product": "returns a times b",
    "is_positive": "tells whether n is above zero",
    "half": "returns n divided by two",
    "greet": "returns a greeting for a name",
}
_ORDER = {
    "type": "object",
    "properties": {
        "order": {"type": "string"},
        "amount": {"type": "number"},
        "currency": {"enum": [*_CURRENCIES]},
    },
    "required": ["order", "amount", "currency"],
    "additionalProperties": False,
}


def load(limit: int | None = None) -> list[dict[str, Any]]:
    """Return the prompts in the form of the demo's files.

    Args:
        limit: at most so many of each route; all when None.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for prompt in (*_demo(), *_claims(), *_directory(), *_multilingual(), *_json(), *_code()):
        found.setdefault(prompt["route"], []).append(prompt)
    return [prompt for prompts in found.values() for prompt in prompts[:limit]]


def _demo() -> Iterator[dict[str, Any]]:
    for path in sorted(DEMO.glob("*.jsonl")):
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)


def _claims() -> Iterator[dict[str, Any]]:
    for place in range(60):
        plan, kind, days = chr(ord("A") + place % 20), _KINDS[place % 8], _DAYS[place * 5 % 12]
        context = f"Plan {plan} covers {kind} claims after {days} days. Plan {plan}2 covers them at once."
        question = f"After how many days does Plan {plan} cover {kind} claims?"
        yield _grounded(REGULATED_ROUTE, place, context, question, str(days))


def _directory() -> Iterator[dict[str, Any]]:
    for place in range(35):
        name, team, city = _NAMES[place % 12], _TEAMS[place % 5], _CITIES[place % 7]
        context = f"Directory: {name} leads the {team} team in {city}. Office hours are 9 to 17."
        yield _grounded("directory", place, context, f"Who leads the {team} team in {city}?", name.split()[-1])


def _multilingual() -> Iterator[dict[str, Any]]:
    for place in range(36):
        statement, question = _LANGUAGES[("es", "fr", "de")[place % 3]]
        plan, days = chr(ord("A") + place % 11), _DAYS[place * 7 % 12]
        context = statement.format(p=plan, d=days)
        yield _grounded("multilingual", place, context, question.format(p=plan), str(days))


def _json() -> Iterator[dict[str, Any]]:
    form = {"type": "json_schema", "json_schema": {"name": "order", "schema": _ORDER}}
    for place in range(40):
        order, shop = f"{'ABCDEFGH'[place % 8]}-{137 + 29 * place}", _SHOPS[place % 6]
        amount, currency = round(19.5 + 7.25 * place, 2), _CURRENCIES[place % 4]
        text = f"Message: Order {order} at {shop} came to {amount:g} {currency}.\n"
        text += "Return a JSON object with the keys order, amount, currency."
        yield _prompt("json_extraction", place, text, [order, f"{amount:g}", currency], 40, response_format=form)


def _code() -> Iterator[dict[str, Any]]:
    for place, (name, what) in enumerate(_FUNCTIONS.items()):
        yield _prompt("code", place, f"Write a Python function {name} that {what}.", [f"def {name}(", "return"], 40)


def _grounded(route: str, place: int, context: str, question: str, expected: str) -> dict[str, Any]:
    return _prompt(route, place, f"Context: {context}\nQuestion: {question}", [expected], 28, context=[context])


def _prompt(route: str, place: int, text: str, expected: list[str], max_tokens: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{route}-more-{place:02}",
        "route": route,
        "prompt_version": "ladder-v1",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "expected": expected,
        **more,
    }
