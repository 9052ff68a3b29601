"""Evaluators by name: ours, and those that other packages register under ``traceai_vllm.evaluators``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.calling import check_evaluator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traceai_vllm.evals.base import Evaluator

GROUP = "traceai_vllm.evaluators"


def names() -> list[str]:
    """Return the names of all evaluators that are registered here."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def evaluators(wanted: Iterable[str]) -> list[Evaluator]:
    """Make evaluators by name, each with its defaults.

    Args:
        wanted: names, as :func:`names` lists them; a name that stands twice counts once.

    Raises:
        ValueError: a name is not registered, and the message lists those that are; or what is registered under it
            is no evaluator, and the message says whose it is.
        ImportError: an evaluator needs a package that is not installed.
    """
    return [_made(name) for name in dict.fromkeys(wanted)]


def _made(name: str) -> Any:
    # An entry point's own extras and dependencies are not checked here: its import says what is missing.
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise ValueError(f"there is no evaluator {name!r}; there are {', '.join(names()) or 'none'}")
    try:
        loaded = found.load()
        made = loaded() if isinstance(loaded, type) or not hasattr(loaded, "evaluate") else loaded
        check_evaluator(made)
    except ImportError:
        raise
    except Exception as error:  # whatever another package does
        raise ValueError(f"the evaluator {name!r} ({found.value}) cannot be made: {error}") from error
    return made
