"""What can keep an evaluation from having a result."""

from __future__ import annotations

import importlib
from typing import Any


class EvaluationError(Exception):
    """The evaluation could not be made. It is never counted as a score."""


class MissingInput(EvaluationError):
    """The evaluator needs something that this request does not have, such as context or a schema."""


class UnusableInput(EvaluationError):
    """What was given cannot be judged: too large, or a schema that is none. It says nothing about the evaluator."""


class MissingExtra(ImportError):
    """An optional package is not installed; the message says the line to type."""


def optional(module: str, purpose: str, extra: str = "evals") -> Any:
    """Import an optional module.

    Args:
        module: its import name.
        purpose: what needs it, for the message, e.g. ``JSONValidation``.
        extra: the extra of traceai-vllm that installs it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise MissingExtra(
            f"{purpose} needs {package}, which is not installed. Type: pip install 'traceai-vllm[{extra}]'"
        ) from error
