"""What all requests of a gateway share: configuration and decision in force, HTTP client, mirror, books, budget."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.trace import NoOpTracerProvider

from traceai_vllm.content.options import ContentMode, ContentOptions, options_from
from traceai_vllm.gateway import cohorts
from traceai_vllm.gateway.books import Books
from traceai_vllm.gateway.breaker import Breaker
from traceai_vllm.gateway.budget import Budget
from traceai_vllm.gateway.client import new_session
from traceai_vllm.gateway.config import Mode, Serving
from traceai_vllm.gateway.config_file import ConfigError, reload_config
from traceai_vllm.gateway.deciles import Deciles
from traceai_vllm.gateway.decision import EVERY_OTHER_ROUTE, Decision, DecisionError, read_decision
from traceai_vllm.gateway.durations import Durations
from traceai_vllm.gateway.events import RollbackEvents
from traceai_vllm.gateway.measures import observe
from traceai_vllm.gateway.mirror import Mirror
from traceai_vllm.gateway.recent import Recent
from traceai_vllm.gateway.rollback import CONFIGURATION, RolloutGuard, Shift
from traceai_vllm.gateway.spans import Spans
from traceai_vllm.gateway.tokens import TokenEstimate
from traceai_vllm.gateway.watch import state_of, watch
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    import aiohttp
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from traceai_vllm.gateway.config import GatewayConfig, Route
    from traceai_vllm.gateway.options import MirrorLimits, Telemetry

_log = logging.getLogger("traceai_vllm.gateway")

# Read when the process starts; a change of these needs a restart.
_FIXED = ("listen", "admin", "books", "trust_callers", "decision_file", "telemetry", "slices")
# The candidate still gets copies, which show when it is well again.
_ROLLED_BACK = Serving(mode=Mode.MIRROR)


class Runtime:
    """The state of a gateway.

    Args:
        config: the configuration at the start.
        path: the file that it came from, to be watched; None: it stays as it is.
        tracer_provider: where spans go; the global provider when None.
        meter_provider: where the books are reported as metrics; the global provider when None.
        logger_provider: where rollbacks are reported as events; the global provider when None.

    Attributes:
        config: the configuration in force; requests under way keep the one that they began with.
        config_error: why the newest file is not in force; None when it is.
        decision: the decision in force; None when there is none.
        decision_error: why there is none; None when there is, or when no file is configured.
        stored: returns how many spans the local store wrote, could not write, cut and removed; None when there is none.
        closing: called at the end, in another thread: what is to be sent or written.
    """

    def __init__(
        self,
        config: GatewayConfig,
        path: str | os.PathLike[str] | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self.config = config
        self.config_error: str | None = None
        self.decision: Decision | None = None
        self.decision_error: str | None = None
        self.books = Books(config.books)
        self.budget = Budget(config.mirror.max_bytes)
        self.content = _content(config.telemetry)
        self.spans = Spans(
            tracer_provider,
            trust_callers=config.trust_callers,
            content=self.content,
            durations=Durations(meter_provider),
        )
        self.silent = Spans(NoOpTracerProvider(), trust_callers=False)
        self._path = None if path is None else Path(path)
        # It may change before the first request, which is when an application that is mounted starts.
        self._read_at = None if self._path is None else state_of(self._path)
        self._breakers: dict[str, Breaker] = {}
        self._deciles: dict[str, Deciles] = {}
        self._tokens: dict[str, TokenEstimate] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._mirror: Mirror | None = None
        self.recent = Recent()
        self.rollout = RolloutGuard(
            lambda: self.config.guard, config.guard.file, RollbackEvents(logger_provider), current=self._current_shift
        )
        self._shifts: dict[str, tuple[Route, Shift | None]] = {}
        self.stored: Callable[[], dict[str, int]] | None = None
        self.closing: list[Callable[[], object]] = []
        observe(self, meter_provider)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP client."""
        assert self._session is not None
        return self._session

    @property
    def mirror(self) -> Mirror:
        """The mirror."""
        assert self._mirror is not None
        return self._mirror

    @property
    def started(self) -> bool:
        """Whether it is running."""
        return self._session is not None

    def start(self) -> None:
        """Start what needs the event loop; once, and by the first request at the latest."""
        if self._session is not None:
            return
        self._session = new_session()
        self._mirror = Mirror(self._mirror_limits, self._session, self.spans)
        self._loop = loop = asyncio.get_running_loop()
        self._prepare_slices(self.config.routes)
        if self._path is not None:
            self._tasks.append(loop.create_task(watch(self._path, self._read_at, self.reload)))
        if self.config.decision_file is not None:
            path = Path(self.config.decision_file)
            read_at = state_of(path)
            self.decide()
            self._tasks.append(loop.create_task(watch(path, read_at, self.decide)))
        self._end_rollbacks()

    async def close(self) -> None:
        """Book what is under way as dropped, and give everything back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._mirror is not None:
            await self._mirror.close()
        if self._session is not None:
            await self._session.close()
        self.books.close()
        for finish in self.closing:
            await asyncio.to_thread(finish)

    def serving(self, route: Route) -> Serving:
        """Return who answers the users of a route now."""
        serving = self._asked_for(route)
        shift = self.shift(route)
        if shift is not None and self.rollout.undone(shift) is not None:
            return _ROLLED_BACK
        return serving

    def shift(self, route: Route) -> Shift | None:
        """Return what moves users of a route to the candidate; None when nothing does."""
        known = self._shifts.get(route.name)
        # A request that began before the file changed still has the route as it was.
        if known is None or known[0] is not route:
            known = self._shifts[route.name] = (route, self._new_shift(route))
        return known[1]

    def _current_shift(self, earlier: Shift) -> Shift | None:
        found = (self.shift(route) for route in self.config.routes if route.name == earlier.route)
        shift = next(found, None)
        return shift if shift is not None and shift.serving == earlier.serving else None

    def _asked_for(self, route: Route) -> Serving:
        decided = None if self.decision is None else self.decision.serving(route.name)
        return route if decided is None else decided

    def _new_shift(self, route: Route) -> Shift | None:
        serving, decision = self._asked_for(route), self.decision
        if serving.mode in (Mode.BASELINE, Mode.MIRROR):
            return None
        text = serving.model_dump_json(include=set(Serving.model_fields))
        if serving is route or decision is None:
            return Shift(route.name, CONFIGURATION, text, None)
        newest = decision.made_at if decision.evidence is None else decision.evidence.end
        return Shift(route.name, f"decision {decision.id!r}", text, newest.timestamp())

    def breaker(self, server: str) -> Breaker:
        """Return the circuit breaker of a server."""
        return self._breakers.setdefault(server, Breaker())

    def deciles(self, route: str, length: int) -> str:
        """Return the decile of a prompt's length among the route's recent ones."""
        return self._deciles.setdefault(route, Deciles())(length)

    def tokens(self, route: str) -> TokenEstimate:
        """Return what is known of the tokens in a route's prompts."""
        return self._tokens.setdefault(route, TokenEstimate())

    def evaluated(self, span_id: int, passed: bool) -> None:
        """Take in that an answer was scored; from any thread.

        Args:
            span_id: of the CLIENT span of the arm that the answer came from.
            passed: whether it reached the thresholds of all evaluators.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._evaluated, span_id, passed)

    def _evaluated(self, span_id: int, passed: bool) -> None:
        answered = self.recent.by_span(span_id)
        if answered is None:
            return
        if answered.shift is not None:
            self.rollout.evaluated(answered.shift, passed=passed)
        else:
            self.rollout.baseline_evaluated(answered.tags[semconv.ROUTE], passed=passed)

    def reload(self) -> None:
        """Take the configuration file into force, all of it or nothing."""
        assert self._path is not None
        try:
            config = reload_config(self._path)
        except ConfigError as error:
            self.config_error = str(error)
            _log.error("The new configuration is not used, the old one stays in force:\n%s", error)
            return
        changed = [name for name in _FIXED if getattr(config, name) != getattr(self.config, name)]
        if changed:
            _log.warning("%s: restart the gateway for the new %s", self._path, ", ".join(changed))
        # Half of it in force would be neither file: until then all of it stays as it was.
        fixed = {name: getattr(self.config, name) for name in changed}
        self.config, self.config_error = config.model_copy(update=fixed), None
        self._prepare_slices(config.routes)
        self._shifts.clear()
        self._end_rollbacks()
        self.budget.limit = config.mirror.max_bytes
        _log.info("%s is in force", self._path)

    def decide(self) -> None:
        """Take the decision file into force; without a good one, the baseline answers."""
        path = Path(self.config.decision_file or "")
        self._shifts.clear()
        try:
            self.decision, self.decision_error = read_decision(path), None
        except DecisionError as error:
            self.decision, self.decision_error = None, str(error)
            _log.error("There is no decision to obey, so the baseline answers on every route: %s", error)
            return
        _log.info("Decision %r of %s is in force: %s", self.decision.id, path, self.decision.action.value)
        self._prepare_slices([route.serving for route in self.decision.routes.values()])
        known = {EVERY_OTHER_ROUTE, *(route.name for route in self.config.routes)}
        for name in sorted(self.decision.routes.keys() - known):
            _log.warning("%s names the route %r, which is not in the configuration", path, name)

    def _end_rollbacks(self) -> None:
        shifts = {route.name: self.shift(route) for route in self.config.routes}
        for name in list(self.rollout.rollbacks):
            self.rollout.served(name, shifts.get(name))

    def _prepare_slices(self, servings: Sequence[Serving]) -> None:
        named = frozenset[str]().union(*(serving.only.cohort_slices for serving in servings))
        if not named:
            return
        if self._loop is not None:
            self._loop.run_in_executor(None, cohorts.warm_up)
        for name in sorted(cohorts.untold(named, self.config.slices)):
            _log.warning(
                "The slice %r cannot be told here, so the baseline answers where it is named. If it is one of the six "
                "that docs/evaluators.md describes: pip install 'traceai-vllm[evals]'; what is regulated, "
                "`slices` in the configuration says",
                name,
            )

    def _mirror_limits(self) -> MirrorLimits:
        return self.config.mirror


def _content(options: Telemetry) -> ContentOptions | None:
    content = options_from(options.content)
    if content is None and options.evaluators:
        return ContentOptions(mode=ContentMode.SCORE_ONLY)
    return content
