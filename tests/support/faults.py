"""Makes any function of traceai-vllm fail, wherever it is referenced from, and finds out which ones run.

A function is made to fail by swapping its ``__code__``: every reference to it (``from x import f``, bound methods,
entries of a table) fails then. A function that is only made during the call, such as a callback, is replaced among the
constants of the function that makes it.
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from types import CodeType, FrameType, FunctionType
from typing import Any
from unittest import mock

PACKAGE = "traceai_vllm"
# Not functions of their own to a reader of the code; since Python 3.12 not even to Python.
_EXPRESSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


@dataclass
class Target:
    """A function of ours.

    Attributes:
        name: e.g. ``engine.live.LiveRequest.adopt``; ``engine.offline.call.<locals>.hook`` for one that another makes.
        code: its code.
        functions: the function objects that run this code.
        makers: the functions that have this code among their constants, and make functions of it.
    """

    name: str
    code: CodeType
    functions: list[FunctionType] = field(default_factory=list)
    makers: list[FunctionType] = field(default_factory=list)


def own_functions() -> dict[CodeType, Target]:
    """Return every function of the package, as far as it is imported, with those that are made inside of others."""
    found: dict[CodeType, Target] = {}
    functions = list(_reachable())
    for function in functions:
        name = f"{function.__module__}.{function.__qualname__}".removeprefix(f"{PACKAGE}.")
        target = found.setdefault(function.__code__, Target(name, function.__code__))
        target.functions.append(function)
    for function in functions:
        _add_inner(found, function, found[function.__code__].name, function.__code__)
    return found


def _reachable() -> Iterator[FunctionType]:
    # The garbage collector could list them, had vLLM not told it to forget what exists (`gc.freeze`).
    waiting: list[Any] = [vars(module) for name, module in list(sys.modules.items()) if _is_own(name)]
    seen: set[int] = set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if type(thing) is FunctionType and _is_own(thing.__module__):
            yield thing
        waiting += _parts(thing)


def _parts(thing: Any) -> list[Any]:
    kind = type(thing)
    if kind is FunctionType:
        return [*gc.get_referents(*(thing.__closure__ or ())), *vars(thing).values()]
    if isinstance(thing, type):
        return list(vars(thing).values()) if _is_own(thing.__module__) else []
    if kind is dict:
        return list(thing.values())
    if kind in (list, tuple, set, frozenset, partial, property, classmethod, staticmethod) or _is_own(kind.__module__):
        return gc.get_referents(thing)
    return []


def _is_own(module: Any) -> bool:
    return str(module).partition(".")[0] == PACKAGE


def _add_inner(found: dict[CodeType, Target], maker: FunctionType, name: str, code: CodeType) -> None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            inner_name = f"{name}.<locals>.{inner.co_name}"
            found.setdefault(inner, Target(inner_name, inner)).makers.append(maker)
            _add_inner(found, maker, inner_name, inner)


def called_in(call: Callable[[], Any]) -> list[Target]:
    """Return the functions of ours that run in this thread, or in one it starts, while ``call`` does."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            codes.add(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    own = own_functions()
    called = (own[code] for code in codes if code in own and code.co_name not in _EXPRESSIONS)
    return sorted(called, key=lambda target: target.name)


class UnprintableError(Exception):
    """An exception that cannot be shown: code that handles errors often tries to."""

    def __str__(self) -> str:
        raise RuntimeError("this exception has no text")

    __repr__ = __str__


class InjectedFault(RuntimeError):
    """Raised by a function that was made to fail."""


@dataclass(frozen=True)
class Kind:
    """A way to fail.

    Attributes:
        name: as shown in reports.
        act: takes the function's place; gets the original function, and the call's arguments.
        needs_original: only for functions that exist before the call.
    """

    name: str
    act: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    needs_original: bool = False

    def fits(self, target: Target) -> bool:
        """Return whether a function can fail in this way."""
        suspends = target.code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR)
        return not self.needs_original or (bool(target.functions) and not suspends)


def _raise(original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise InjectedFault("injected")


def _raise_unprintable(original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise UnprintableError


def _raise_late(original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    original(*args, **kwargs)
    raise InjectedFault("injected after the work was done")


NOTHING = Kind("returns None", lambda original, args, kwargs: None)
KINDS = (
    Kind("raises", _raise),
    Kind("raises an exception that cannot be printed", _raise_unprintable),
    NOTHING,
    Kind("returns an object()", lambda original, args, kwargs: object()),
    Kind("does its work, then raises", _raise_late, needs_original=True),
)


class Injected:
    """Context manager: makes a function fail in a given way for a while.

    Attributes:
        reached: how often the function was called meanwhile.
    """

    def __init__(self, target: Target, kind: Kind) -> None:
        self.reached = 0
        self._target = target
        self._kind = kind
        self._before: list[tuple[FunctionType, CodeType]] = []

    def __enter__(self) -> Injected:
        code = self._target.code
        self._before = [(f, f.__code__) for f in (*self._target.functions, *self._target.makers)]
        for function in self._target.functions:
            function.__code__ = _faulty(code, self._acting(_copy(function)))
        for function in self._target.makers:
            function.__code__ = _with_inner(function.__code__, code, _faulty(code, self._acting(None)))
        return self

    def __exit__(self, *error: object) -> None:
        for function, code in self._before:
            function.__code__ = code

    def _acting(self, original: Any) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            self.reached += 1
            return self._kind.act(original, args, kwargs)

        return act


class Raising:
    """Context manager: makes a method of somebody else's raise for a while.

    Attributes:
        reached: how often it was called meanwhile.
    """

    def __init__(self, owner: Any, method: str) -> None:
        self.reached = 0
        self._patch = mock.patch.object(owner, method, self._raise)

    def __enter__(self) -> Raising:
        self._patch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._patch.stop()

    def _raise(self, *args: Any, **kwargs: Any) -> Any:
        self.reached += 1
        raise InjectedFault("injected")


def _copy(function: FunctionType) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _with_inner(code: CodeType, inner: CodeType, replacement: CodeType) -> CodeType:
    def changed(constant: Any) -> Any:
        if constant is inner:
            return replacement
        return _with_inner(constant, inner, replacement) if isinstance(constant, CodeType) else constant

    return code.replace(co_consts=tuple(changed(constant) for constant in code.co_consts))


_ACT = "the callable that takes the function's place"


def _faulty(code: CodeType, act: Callable[..., Any]) -> CodeType:
    """Return code that calls ``act``, and that a function with this code can run: as many cells, the same sort."""
    template = _template(len(code.co_freevars), _sort(code))
    return template.replace(
        co_consts=tuple(act if constant == _ACT else constant for constant in template.co_consts),
        co_name=code.co_name,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
    )


def _sort(code: CodeType) -> str:
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return "async generator" if code.co_flags & inspect.CO_ASYNC_GENERATOR else "generator"
    return "coroutine" if code.co_flags & inspect.CO_COROUTINE else "function"


@cache
def _template(cells: int, sort: str) -> CodeType:
    names = [f"cell{i}" for i in range(cells)]
    define = "async def" if sort in ("coroutine", "async generator") else "def"
    # A generator that "returns None" yields nothing.
    end = "if result is not None: yield result" if "generator" in sort else "return result"
    source = "\n".join(
        (
            f"def make({', '.join(names)}):",
            f"    {define} fault(*args, **kwargs):",
            f"        ({''.join(name + ', ' for name in names)})",
            f"        act = {_ACT!r}",
            "        result = act(*args, **kwargs)",
            f"        {end}",
            "    return fault",
        )
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    code: CodeType = namespace["make"](*[None] * cells).__code__
    return code
