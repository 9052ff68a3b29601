"""Reads ``policy.yaml``. Every error says the line and what to write there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.release.policy import Evidence, Gain, Guard, Limits, Override, Policy, Price, Rule, Scope
from traceai_vllm.yaml_file import YamlFileError, load_yaml, parse_yaml

if TYPE_CHECKING:
    import os

_MODELS = (Policy, Evidence, Limits, Guard, Gain, Scope, Override, Price, Rule)


class PolicyError(YamlFileError):
    """The policy cannot be used; the message has a line for each problem, with its place and the fix."""


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: it cannot be read, is no YAML, or says what it may not say.
    """
    return load_yaml(path, Policy, _MODELS, PolicyError)


def parse_policy(text: str, name: str = "policy.yaml") -> Policy:
    """Return the policy that a text says.

    Args:
        text: YAML.
        name: what errors call the file.

    Raises:
        PolicyError: as :func:`load_policy`.
    """
    return parse_yaml(text, name, Policy, _MODELS, PolicyError)
