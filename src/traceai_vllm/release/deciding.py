"""From cells to an action: which parts of the traffic are healthy, which rule of the policy holds, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.cells import HEALTHY, NOT_ENOUGH, REGRESSED, Cell, cells_of_rows, scope_name
from traceai_vllm.release.frame import PROMPT_TOKENS, SLICE
from traceai_vllm.release.measures import QUANTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traceai_vllm.gateway.decision import Action
    from traceai_vllm.release.comparison import Comparison
    from traceai_vllm.release.frame import Frame, Rows, Scope
    from traceai_vllm.release.policy import Condition, Gain, Rule

    _Rows = tuple[Rows, Rows]  # of pairs, and of answers that users saw

DAY_NS = 86_400 * 1_000_000_000
_MINUTE_NS = 60 * 1_000_000_000
ROUTE, INTENT, COHORT = "route", "intent", "traffic_cohort"


@dataclass(frozen=True)
class Allowed:
    """What of a route the candidate may answer.

    Attributes:
        route: the route; None for traffic without routes.
        max_prompt_tokens: the longest prompt; None: any.
        intents: the intents; None: any.
        traffic_cohorts: the cohorts; None: any.
        except_slices: slices that it may not answer.
    """

    route: str | None
    max_prompt_tokens: int | None = None
    intents: tuple[str, ...] | None = None
    traffic_cohorts: tuple[str, ...] | None = None
    except_slices: tuple[str, ...] = ()


class Judgement:
    """What a comparison says about each part of the traffic, and which rule follows.

    Args:
        comparison: the comparison.
        as_of_ns: the time that evidence is old or new at; None: when its newest pair was complete.
    """

    def __init__(self, comparison: Comparison, as_of_ns: int | None = None) -> None:
        self.comparison = comparison
        self.as_of_ns = comparison.end_ns if as_of_ns is None else as_of_ns
        self._by_scope: dict[Scope, list[Cell]] = {}
        for cell in comparison.cells:
            if cell.margin is not None:
                self._by_scope.setdefault(cell.scope, []).append(cell)

    def verdict(self, scope: Scope) -> str:
        """Return the verdict on a part: regressed when one of its cells is, healthy when all are."""
        verdicts = {cell.verdict for cell in self._by_scope.get(scope, ())}
        if REGRESSED in verdicts:
            return REGRESSED
        return HEALTHY if verdicts == {HEALTHY} else NOT_ENOUGH

    @cached_property
    def regressed(self) -> list[Cell]:
        """Guarded cells that regressed, the clearest first."""
        found = [cell for cells in self._by_scope.values() for cell in cells if cell.verdict == REGRESSED]
        return sorted(found, key=lambda cell: (cell.evidence.p_value, len(cell.scope), cell.name, cell.measure.name))

    @cached_property
    def undecided(self) -> list[Cell]:
        """Guarded cells without enough evidence, in order."""
        return [cell for cell in self._must_be_healthy if cell.verdict == NOT_ENOUGH]

    @cached_property
    def unjudged(self) -> dict[str, tuple[str, ...]]:
        """Guarded measures that are judged nowhere, with the divisions that they are guarded in: no pair is in one."""
        policy, judged = self.comparison.policy, {cell.measure.name for cell in self._must_be_healthy}
        asked = {name: policy.guard if one.guard is None else one.guard for name, one in policy.measures.items()}
        return {name: divisions for name, divisions in asked.items() if divisions and name not in judged}

    @cached_property
    def books_problems(self) -> list[str]:
        """What is over its limit in the books."""
        policy = self.comparison.policy
        problems = self.comparison.books.over_limit(policy.limits)
        if len(self.comparison.frame):
            problems += [
                f"{name} is judged nowhere: no pair has a value of {' or '.join(divisions)}"
                for name, divisions in self.unjudged.items()
            ]
        if policy.evidence.max_age_days is not None and self.as_of_ns is not None and len(self.comparison.frame):
            problems += self._too_old(self.as_of_ns, policy.evidence.max_age_days)
        return problems

    @cached_property
    def gains(self) -> list[tuple[Gain, Cell | None, bool]]:
        """Each required gain, its cell over all traffic, and whether it is shown."""
        found = []
        for gain in self.comparison.policy.gains:
            cell = self.comparison.cell((), gain.measure)
            found.append((gain, cell, cell is not None and _is_shown(gain, cell)))
        return found

    @cached_property
    def allowed(self) -> list[Allowed]:
        """What the candidate may answer, route by route; routes that are not healthy in any part are not in it."""
        routes: list[str | None] = [*self.comparison.frame.names[ROUTE]] or [None]
        found = [one for route in routes if (one := self._allowed_of(route)) is not None]
        for part in self._parts_to_clear():
            found = self._cleared(found, part)
        return found

    def holds(self, condition: Condition) -> bool:
        """Return whether a condition of a rule holds."""
        return bool(getattr(self, f"_{condition.value}")())

    @cached_property
    def rule(self) -> Rule:
        """The first rule of the policy that holds."""
        rules = self.comparison.policy.rules
        return next(rule for rule in rules if all(self.holds(condition) for condition in rule.when))

    @property
    def action(self) -> Action:
        """What is to be done."""
        return self.rule.then

    @property
    def _must_be_healthy(self) -> list[Cell]:
        # All that is guarded but for parts of routes, which were looked at only to find where a regression sits.
        critical = {part.items() for part in self.comparison.policy.critical}
        return [
            cell for scope, cells in self._by_scope.items() if len(scope) <= 1 or scope in critical for cell in cells
        ]

    def _too_old(self, now: int, oldest: float) -> list[str]:
        arrived = self.comparison.frame.arrived_ns
        # One clock that is years ahead does not make old evidence new; a minute is what clocks differ by.
        past = arrived[arrived <= now + _MINUTE_NS]
        if not len(past):
            return ["every pair is later than the time at which its age is told: a clock, or --as-of, is wrong"]
        days = (now - int(past.max())) / DAY_NS
        return [f"the newest pair is {days:.1f} days old (limit {oldest:g})"] if days > oldest else []

    def _books_over_limit(self) -> bool:
        return bool(self.books_problems)

    def _critical_regressed(self) -> bool:
        return any(self.verdict(part.items()) == REGRESSED for part in self.comparison.policy.critical)

    def _regressed(self) -> bool:
        return bool(self.regressed)

    def _some_healthy(self) -> bool:
        return bool(self.allowed)

    def _all_healthy(self) -> bool:
        cells = self._must_be_healthy
        return bool(cells) and not self.unjudged and all(cell.verdict == HEALTHY for cell in cells)

    def _gains_shown(self) -> bool:
        return all(shown for _, _, shown in self.gains)

    def _regressed_everywhere(self) -> bool:
        if not self.regressed or self.allowed:
            return False
        routes = self.comparison.frame.scopes(ROUTE)
        return self.verdict(()) == REGRESSED or all(self.verdict(route) == REGRESSED for route in routes)

    def _only_long_prompts_regressed(self) -> bool:
        limited = [part for part in self.allowed if part.max_prompt_tokens is not None]
        routes = [*self.comparison.frame.scopes(ROUTE)] or [()]
        explained = {part.route for part in limited}
        return bool(limited) and all(
            self.verdict(scope) != REGRESSED or dict(scope).get(ROUTE) in explained for scope in routes
        )

    def _allowed_of(self, route: str | None) -> Allowed | None:
        """Return the most of a route that is healthy by itself; None when no part is."""
        scope = _scope_of(route)
        if self.verdict(scope) == HEALTHY and not self._regressed_within(scope):
            return Allowed(route)
        found = [one for one in self._narrowed(route, scope) if self._is_clear(one)]
        return max(found, key=lambda one: len(self._rows_of(one, scope)[0]), default=None)

    def _regressed_within(self, scope: Scope) -> list[Scope]:
        inside = [found for found in self._by_scope if len(found) > len(scope) and found[: len(scope)] == scope]
        return [part for part in inside if self.verdict(part) == REGRESSED]

    def _narrowed(self, route: str | None, scope: Scope) -> Iterator[Allowed]:
        """Return what of a route the gateway could let through, without what regressed."""
        tokens = self._longest_healthy(scope)
        if tokens is not None and self._verdict_of(self._of_unknown_length(scope), scope) != REGRESSED:
            yield Allowed(route, max_prompt_tokens=tokens)
        if intents := self._healthy_values(scope, INTENT):
            yield Allowed(route, intents=intents)
        if cohorts := self._healthy_values(scope, COHORT):
            yield Allowed(route, traffic_cohorts=cohorts)
        if slices := self._regressed_slices(scope):
            yield Allowed(route, except_slices=slices)

    def _is_clear(self, allowed: Allowed) -> bool:
        """Whether what is left of a route is healthy, and nothing in it regresses any more."""
        scope = _scope_of(allowed.route)
        left = [self._verdict_of(self._rows_of(allowed, part), part) for part in self._regressed_within(scope)]
        return REGRESSED not in left and self._verdict_of(self._rows_of(allowed, scope), scope) == HEALTHY

    def _parts_to_clear(self) -> list[Scope]:
        critical = [part.items() for part in self.comparison.policy.critical]
        regressed = [scope for scope in self._by_scope if len(scope) == 1 and self.verdict(scope) == REGRESSED]
        return critical + [scope for scope in regressed if scope[0][0] != ROUTE and scope not in critical]

    def _cleared(self, allowed: list[Allowed], part: Scope) -> list[Allowed]:
        # A part that regressed somewhere may be healthy in what is allowed, as a route may be to blame. Where it still
        # regresses, what has a share in it is taken out; of a slice, and of what is critical, also where it is not
        # shown to be healthy.
        rows = {place: self._rows_of(one, part) for place, one in enumerate(allowed)}
        together = self._verdict_of(_together([*rows.values()]), part)
        must_be_shown = part[0][0] == SLICE or part in [scope.items() for scope in self.comparison.policy.critical]
        if together in (None, HEALTHY) or (together == NOT_ENOUGH and not must_be_shown):
            return allowed
        cleared = []
        for place, one in enumerate(allowed):
            clear = self._verdict_of(rows[place], part) in (None, HEALTHY)
            narrower = one if clear else self._without(one, part)
            cleared += [] if narrower is None else [narrower]
        return cleared

    def _without(self, allowed: Allowed, part: Scope) -> Allowed | None:
        """Return what is allowed without a slice; None when the gateway cannot tell it, or the rest is not healthy."""
        [(dimension, name), *more] = part
        if dimension != SLICE or more or name not in _told_slices():
            return None
        narrower = replace(allowed, except_slices=tuple(sorted({*allowed.except_slices, name})))
        return narrower if self._is_clear(narrower) else None

    def _verdict_of(self, rows: _Rows, part: Scope) -> str | None:
        """Return the verdict on some rows of a part; None when there are none."""
        pairs, served = rows
        if not len(pairs) and not len(served):
            return None
        measures = [cell.measure for cell in self._by_scope.get(part, ())]
        cells = cells_of_rows(self.comparison.frame, pairs, part, measures, self.comparison.policy, served=served)
        verdicts = {cell.verdict for cell in cells}
        if REGRESSED in verdicts:
            return REGRESSED
        return HEALTHY if verdicts == {HEALTHY} else NOT_ENOUGH

    def _rows_of(self, allowed: Allowed, part: Scope) -> _Rows:
        frame = self.comparison.frame
        served = np.empty(0, np.intp) if frame.served is None else self._rows_in(frame.served, allowed, part)
        return self._rows_in(frame, allowed, part), served

    def _rows_in(self, frame: Frame, allowed: Allowed, part: Scope) -> Rows:
        in_route = () if allowed.route is None or (ROUTE, allowed.route) in part else ((ROUTE, allowed.route),)
        rows = frame.rows((*part, *in_route))
        if allowed.max_prompt_tokens is not None:
            longest = self.comparison.policy.prompt_token_buckets.index(allowed.max_prompt_tokens)
            bucket = frame.codes[PROMPT_TOKENS][rows]
            rows = rows[(bucket >= 0) & (bucket <= longest)]  # below 0: of unknown length, which is not short
        for dimension, allowed_names in ((INTENT, allowed.intents), (COHORT, allowed.traffic_cohorts)):
            if allowed_names is not None:
                names = frame.names[dimension]
                codes = [names.index(name) for name in allowed_names if name in names]
                rows = rows[np.isin(frame.codes[dimension][rows], codes)]
        for name in allowed.except_slices:
            rows = np.setdiff1d(rows, frame.rows(((SLICE, name),)), assume_unique=True)
        return rows

    def _of_unknown_length(self, scope: Scope) -> _Rows:
        """Return what may be short: where that regressed, its length is not to blame."""
        frames = (self.comparison.frame, self.comparison.frame.served)
        pairs, served = (
            np.empty(0, np.intp) if frame is None else (rows := frame.rows(scope))[frame.codes[PROMPT_TOKENS][rows] < 0]
            for frame in frames
        )
        return pairs, served

    def _longest_healthy(self, scope: Scope) -> int | None:
        frame, edges = self.comparison.frame, self.comparison.policy.prompt_token_buckets
        verdicts = []
        for name in frame.names[PROMPT_TOKENS]:
            part = (*scope, (PROMPT_TOKENS, name))
            verdicts.append(self.verdict(part) if len(frame.rows(part)) else None)
        longest = None
        for place, found in enumerate(verdicts[: len(edges)]):
            if found == HEALTHY:
                longest = edges[place]
            elif found is not None:
                break
        return longest if REGRESSED in verdicts else None

    def _healthy_values(self, scope: Scope, dimension: str) -> tuple[str, ...]:
        """Return the values of a dimension that are healthy in a part where others regressed."""
        names = self.comparison.frame.names[dimension]
        verdicts = {name: self.verdict((*scope, (dimension, name))) for name in names}
        if REGRESSED not in verdicts.values():
            return ()
        return tuple(name for name, found in verdicts.items() if found == HEALTHY)

    def _regressed_slices(self, scope: Scope) -> tuple[str, ...]:
        """Return the slices that regressed in a part, of those that the gateway can tell from a request."""
        parts = self.comparison.frame.parts(SLICE)
        regressed = [name for name in parts if self.verdict((*scope, (SLICE, name))) == REGRESSED]
        return tuple(name for name in regressed if name in _told_slices())


def _scope_of(route: str | None) -> Scope:
    return () if route is None else ((ROUTE, route),)


def _told_slices() -> tuple[str, ...]:
    from traceai_vllm.evals.slices import SLICES  # a tenth of a second to import: only where it is needed

    return SLICES


def _together(rows: list[_Rows]) -> _Rows:
    none = np.empty(0, np.intp)
    pairs, served = (np.unique(np.concatenate([none, *(one[side] for one in rows)])) for side in (0, 1))
    return pairs, served


def _is_shown(gain: Gain, cell: Cell) -> bool:
    no_change = 1.0 if cell.measure.kind == QUANTILE else 0.0  # a ratio, or a mean relative change
    return cell.evidence.pairs > 0 and cell.evidence.high <= no_change - gain.at_least


def describe(allowed: Allowed) -> str:
    """Return in words what the candidate may answer."""
    name = "all traffic" if allowed.route is None else scope_name(((ROUTE, allowed.route),))
    if allowed.max_prompt_tokens is not None:
        name += f" up to {allowed.max_prompt_tokens} prompt tokens"
    for what, names in (("for intent", allowed.intents), ("for cohort", allowed.traffic_cohorts)):
        name += f" {what} {', '.join(names)}" if names else ""
    return name + (f" except slice {', '.join(allowed.except_slices)}" if allowed.except_slices else "")
