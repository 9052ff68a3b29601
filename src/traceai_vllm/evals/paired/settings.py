"""What the paired checks look for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANY_ROUTE = "*"


@dataclass(frozen=True)
class PairedSettings:
    """Settings of the paired checks; the defaults need no tuning.

    Attributes:
        required_wording: by route, the wordings that an answer must not lose, such as a disclaimer; under ``*`` those
            of every route. Letter case, spacing and punctuation do not matter.
        refusal_phrases: more phrases by which your model declines, beside the usual ones of fifteen languages.
        min_letters: an answer with fewer letters has no language that could be told.
        min_confidence: how sure the language identification must be, from 0 to 1.
        rare_zipf: names of which the words are rarer than this are checked, on the Zipf scale (log10 of uses in a
            billion words; van Heuven et al. 2014). 3 is once in a million words.
        max_characters: of longer answers only so many characters are looked at.
        baseline: ``model_variant`` of the baseline, for spans in a store that do not say which arm they are, as those
            of requests that a proxy mirrored; goes with ``candidate``.
        candidate: ``model_variant`` of the candidate, likewise.

    Raises:
        ValueError: a setting is out of its range; one variant is named without the other; or ``required_wording`` has a
            text where a list of texts belongs.
    """

    required_wording: Mapping[str, Sequence[str]] = field(default_factory=dict)
    refusal_phrases: Sequence[str] = ()
    min_letters: int = 20
    min_confidence: float = 0.7
    rare_zipf: float = 3.0
    max_characters: int = 100_000
    baseline: str | None = None
    candidate: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"PairedSettings: min_confidence is from 0 to 1, not {self.min_confidence!r}")
        if self.min_letters < 1 or self.max_characters < 1:
            raise ValueError("PairedSettings: min_letters and max_characters are at least 1")
        if (self.baseline is None) != (self.candidate is None):
            raise ValueError("PairedSettings: name both variants, baseline and candidate, or none")
        for name, texts in (("refusal_phrases", self.refusal_phrases), *self.required_wording.items()):
            if isinstance(texts, str):
                raise ValueError(f"PairedSettings: {name} takes a list of texts: [{texts!r}]")

    def wordings(self, route: str | None) -> list[str]:
        """Return the wordings that are required on a route, each once."""
        own = self.required_wording.get(route, ()) if route is not None else ()
        return list(dict.fromkeys([*self.required_wording.get(ANY_ROUTE, ()), *own]))
