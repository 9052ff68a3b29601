"""A vLLM of which only the frontend's request path is real; torch, transformers and the rest are stubs.

The real modules of a version are run from its wheel's files, without torch, a GPU or a model. Whatever they import
beside each other is a :class:`Stub`, which can be called, subclassed, used as a type or a decorator, and does nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Modules of vLLM that run as they are, where the version has them.
REAL = frozenset(
    {
        "vllm.beam_search",
        "vllm.engine.llm_engine",
        "vllm.engine.output_processor.stop_checker",
        "vllm.engine.protocol",
        "vllm.entrypoints.common.offline",
        "vllm.entrypoints.generate.beam_search.offline",
        "vllm.entrypoints.llm",
        "vllm.entrypoints.offline_utils",
        "vllm.entrypoints.pooling.offline",
        "vllm.entrypoints.rl.offline",
        "vllm.envs",
        "vllm.exceptions",
        "vllm.outputs",
        "vllm.pooling_params",
        "vllm.sampling_params",
        "vllm.v1.engine",
        "vllm.v1.engine.async_llm",
        "vllm.v1.engine.detokenizer",
        "vllm.v1.engine.exceptions",
        "vllm.v1.engine.llm_engine",
        "vllm.v1.engine.logprobs",
        "vllm.v1.engine.output_processor",
        "vllm.v1.engine.parallel_sampling",
        "vllm.v1.metrics.stats",
    }
)
STUBBED = frozenset(
    {"cloudpickle", "cachetools", "prometheus_client", "psutil", "tokenizers", "torch", "tqdm", "transformers", "zmq"}
)


class Stub:
    """Stands for anything: attributes and results are stubs too; as a base class it vanishes."""

    def __init__(self, name: str = "stub") -> None:
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        value = _value(name, f"{self._name}.{name}")
        self.__dict__[name] = value
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        # As a decorator it leaves what it decorates as it is.
        if len(args) == 1 and not kwargs and isinstance(args[0], (types.FunctionType, type, staticmethod, classmethod)):
            return args[0]
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __subclasscheck__(self, subclass: Any) -> bool:
        return False

    def __getitem__(self, item: Any) -> Any:
        return self

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        return None

    def __repr__(self) -> str:
        return f"<{self._name}>"


def _value(name: str, path: str) -> Any:
    # Only real exception classes can stand after `except`.
    if name.endswith(("Error", "Exception")):
        return type(name, (Exception,), {"__module__": "stub"})
    return Stub(path)


def _detokenize(*args: Any, **kwargs: Any) -> tuple[list[str], str, int, int]:
    """Stand for vLLM's ``detokenize_incrementally``: the text of token 7 is ``<7>``."""
    ids = kwargs.get("all_input_ids") or args[1]
    return [], f"<{ids[-1]}>", 0, 0


class _Counter:
    """Stand for ``vllm.utils.Counter``."""

    def __init__(self, start: int = 0) -> None:
        self.counter = start

    def __next__(self) -> int:
        self.counter += 1
        return self.counter - 1


def _length(prompt_token_ids: Any, prompt_embeds: Any) -> int:
    return len(prompt_token_ids)


def _cancel(task: Any) -> None:
    if task is not None and not task.done():
        task.get_loop().call_soon_threadsafe(task.cancel)


# What the real modules call and need an answer from, by name: where it is defined has moved from version to version.
ANSWERS: dict[str, Callable[..., Any] | type] = {
    "Counter": _Counter,
    "apply_hf_chat_template": lambda *args, **kwargs: "",
    "as_iter": lambda value: value if isinstance(value, (list, tuple)) else [value],
    "as_list": list,
    "cancel_task_threadsafe": _cancel,
    "cdiv": lambda a, b: -(-a // b),
    "conversation_to_seq": lambda found: found if isinstance(found[0], list) else [found],
    "convert_prompt_ids_to_tokens": lambda *args, **kwargs: ([], 0, 0),
    "detokenize_incrementally": _detokenize,
    "extract_prompt_components": lambda *args, **kwargs: (None, None, None),
    "get_prompt_components": lambda *args, **kwargs: (None, None, None),
    "is_list_of": lambda value, kind, **_: isinstance(value, list) and all(isinstance(item, kind) for item in value),
    "length_from_prompt_token_ids_or_embeds": _length,
    "maybe_tqdm": lambda items, **kwargs: items,
    "parse_chat_messages": lambda *args, **kwargs: ([], None),
    "prompt_to_seq": lambda found: [found] if isinstance(found, (dict, str)) else found,
}


class _StubLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda name: _attribute(spec.name, name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        return None


def _attribute(module: str, name: str) -> Any:
    if name == "__version__":
        return "0.0.0"
    if name.startswith("__"):
        raise AttributeError(name)
    value = ANSWERS.get(name) or _value(name, f"{module}.{name}")
    setattr(sys.modules[module], name, value)
    return value


class Finder(importlib.abc.MetaPathFinder):
    """Finds the real modules in a version's files, and stubs for all the rest.

    Args:
        sources: the folder that holds ``vllm/``.
    """

    def __init__(self, sources: Path) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module of vLLM or a stubbed package comes from; None for all others."""
        top = fullname.partition(".")[0]
        if top != "vllm" and top not in STUBBED:
            return None
        if fullname in REAL:
            file = self._sources.joinpath(*fullname.split("."))
            if file.is_dir():
                return importlib.util.spec_from_file_location(
                    fullname, file / "__init__.py", submodule_search_locations=[]
                )
            if file.with_suffix(".py").is_file():
                return importlib.util.spec_from_file_location(fullname, file.with_suffix(".py"))
        return importlib.machinery.ModuleSpec(fullname, _StubLoader(), is_package=True)


def install(sources: Path) -> None:
    """Let this process import the vLLM in ``sources``; it must not have imported vLLM or torch before."""
    loaded = sorted(name for name in sys.modules if name.partition(".")[0] in STUBBED | {"vllm"})
    if loaded:
        raise RuntimeError(f"already imported: {', '.join(loaded[:5])}")
    sys.meta_path.insert(0, Finder(sources))
