"""A version's real ``LLM``, ``LLMEngine`` and ``AsyncLLM`` over an engine core that follows a script.

What the frontend asks of the engine core (a process with a model) is answered here: tokens step by step, rejections,
a death. What differs between versions is found by looking at the real classes.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compat.stubs import Stub

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = [11, 12, 13]
MODEL = "/models/one-layer"


class Classes:
    """The real classes of the installed version, by name."""

    def __init__(self) -> None:
        load = importlib.import_module
        self.engine: Any = load("vllm.v1.engine")
        self.EngineCoreRequest = self.engine.EngineCoreRequest
        self.EngineCoreOutput = self.engine.EngineCoreOutput
        self.EngineCoreOutputs = self.engine.EngineCoreOutputs
        self.FinishReason = self.engine.FinishReason
        processing: Any = load("vllm.v1.engine.output_processor")
        self.OutputProcessor = processing.OutputProcessor
        self.RequestOutputCollector = processing.RequestOutputCollector
        self.ParentRequest = load("vllm.v1.engine.parallel_sampling").ParentRequest
        self.EngineDeadError = load("vllm.v1.engine.exceptions").EngineDeadError
        sampling: Any = load("vllm.sampling_params")
        self.SamplingParams, self.RequestOutputKind = sampling.SamplingParams, sampling.RequestOutputKind
        self.PoolingParams = load("vllm.pooling_params").PoolingParams
        stats: Any = load("vllm.v1.metrics.stats")
        self.IterationStats, self.SchedulerStats = stats.IterationStats, stats.SchedulerStats
        self.LLM = load("vllm.entrypoints.llm").LLM
        self.AsyncLLM = load("vllm.v1.engine.async_llm").AsyncLLM
        self.outputs: Any = load("vllm.outputs")
        module: Any = load("vllm.v1.engine.llm_engine")
        self.LLMEngine = module.LLMEngine
        first = load("vllm.engine.llm_engine").LLMEngine
        self.FirstEngine = first if first.__module__ == "vllm.engine.llm_engine" else None
        self.source_of_engine = Path(str(module.__file__)).read_text()

    @property
    def pools(self) -> bool:
        """Whether V1 engines take pooling requests (0.9.2)."""
        return "pooling_params" in self.EngineCoreRequest.__struct_fields__

    @property
    def rejects(self) -> bool:
        """Whether the engine core can reject a request (0.33)."""
        return "error" in self.EngineCoreOutput.__struct_fields__

    @property
    def streams_input(self) -> bool:
        """Whether a request can be given more input later (0.15)."""
        return "resumable" in self.EngineCoreRequest.__struct_fields__

    @property
    def renames_requests(self) -> bool:
        """Whether the engine makes internal request ids (0.14)."""
        return "external_req_id" in self.EngineCoreRequest.__struct_fields__


class Settings:
    """A ``VllmConfig``: sections with the values given, and None for all others."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def config() -> Settings:
    """Return the config of an unquantized one-layer model."""
    model = Settings(
        model=MODEL,
        served_model_name=MODEL,
        dtype="torch.bfloat16",
        max_model_len=1024,
        runner_type="generate",
        task="generate",
    )
    return Settings(
        model_config=model,
        cache_config=Settings(cache_dtype="auto", kv_sharing_fast_prefill=False),
        scheduler_config=Settings(stream_interval=1),
        observability_config=Settings(),
        parallel_config=Settings(data_parallel_size=1, tensor_parallel_size=1, pipeline_parallel_size=1),
        profiler_config=Settings(),
    )


class Core:
    """The engine core: gives each running request a token per step.

    What a request gets is said by the first token of its prompt, so that a scenario only chooses prompts.
    """

    ENDLESS, DIES, REJECTED, STOPS = 901, 902, 903, 904

    def __init__(self, classes: Classes, log_stats: bool) -> None:
        self._classes = classes
        self._log_stats = log_stats
        self._running: dict[str, tuple[Any, int]] = {}
        self._wake = asyncio.Event()
        self.clock = 1000.0
        self.resources = Settings(engine_dead=False)
        self.engine_ranks_managed = [0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"engine_core.{name}")

    def dp_engines_running(self) -> bool:
        """Return that there are no further engines."""
        return False

    def add_request(self, request: Any) -> None:
        """Take a request."""
        self._running[request.request_id] = (request, 0)
        self._wake.set()

    async def add_request_async(self, request: Any) -> None:
        """Take a request."""
        self.add_request(request)

    def abort_requests(self, request_ids: list[str]) -> None:
        """Forget requests."""
        for request_id in request_ids:
            self._running.pop(request_id, None)

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        """Forget requests."""
        self.abort_requests(request_ids)

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        """Return what the model can do."""
        return ("generate", "embed")

    def get_output(self) -> Any:
        """Do a step."""
        self.clock += 0.25
        outputs = [self._step(request, done) for request, done in list(self._running.values())]
        fields: dict[str, Any] = {"outputs": outputs, "timestamp": self.clock}
        if self._log_stats:
            fields["scheduler_stats"] = self._scheduler_stats()
        return self._classes.EngineCoreOutputs(**fields)

    async def get_output_async(self) -> Any:
        """Do a step, as soon as there is a request."""
        while not self._running:
            self._wake.clear()
            await self._wake.wait()
        await asyncio.sleep(0)
        return self.get_output()

    def _scheduler_stats(self) -> Any:
        return self._classes.SchedulerStats(num_running_reqs=len(self._running), num_waiting_reqs=0)

    def _step(self, request: Any, done: int) -> Any:
        classes, kind = self._classes, request.prompt_token_ids[0]
        self._running[request.request_id] = (request, done + 1)
        if kind == self.DIES and done == 2:
            self.resources.__dict__["engine_dead"] = True
            raise classes.EngineDeadError
        if getattr(request, "pooling_params", None) is not None:
            del self._running[request.request_id]
            return output(classes, request, [], "STOP", pooling_output=_Tensor())
        if kind == self.REJECTED:
            del self._running[request.request_id]
            return output(classes, request, [], "ERROR", error=request_error(classes))
        reason = None
        if kind == self.STOPS and done == 2:
            reason = "STOP"
        elif kind != self.ENDLESS and done + 1 >= request.sampling_params.max_tokens:
            reason = "LENGTH"
        if reason is not None:
            del self._running[request.request_id]
        events = self._events() if self._log_stats and not done else None
        return output(classes, request, [20 + done], reason, events=events)

    def _events(self) -> list[Any]:
        kinds, event = self._classes.engine.EngineCoreEventType, self._classes.engine.EngineCoreEvent
        return [
            event(type=kinds.QUEUED, timestamp=self.clock - 0.5),
            event(type=kinds.SCHEDULED, timestamp=self.clock - 0.25),
        ]


class _Tensor:
    """What a pooling request results in, as far as the frontend looks at it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tensor)

    def __hash__(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def request_error(classes: Classes) -> Any:
    """Return the error of a request that the engine core rejects (0.33), or None."""
    kind = getattr(classes.outputs, "RequestError", None)
    if kind is None:
        return None
    return kind(code="generation_error", message="the engine is paused")


def output(classes: Classes, request: Any, tokens: list[int], reason: str | None = None, **more: Any) -> Any:
    """Return an ``EngineCoreOutput`` for a request; fields that this version does not have are left out."""
    fields = {
        "request_id": request if isinstance(request, str) else request.request_id,
        "new_token_ids": tokens,
        "finish_reason": None if reason is None else classes.FinishReason[reason],
        "num_cached_tokens": 0,
        "prefill_stats": prefill_stats(),
        **more,
    }
    known = classes.EngineCoreOutput.__struct_fields__
    return classes.EngineCoreOutput(**{name: value for name, value in fields.items() if name in known})


def prefill_stats() -> Any:
    """Return what the engine says of a prefill (0.20), or None."""
    kind = getattr(importlib.import_module("vllm.v1.metrics.stats"), "PrefillStats", None)
    return None if kind is None else kind(num_prompt_tokens=len(PROMPT), num_computed_tokens=len(PROMPT))


def request(classes: Classes, name: str, params: Any, prompt: list[int] | None = None, **more: Any) -> Any:
    """Return an ``EngineCoreRequest``; fields that this version does not have are left out."""
    pooling = isinstance(params, classes.PoolingParams)
    fields = {
        **dict.fromkeys(classes.EngineCoreRequest.__struct_fields__),
        **dict(zip(_defaulted(classes.EngineCoreRequest), classes.EngineCoreRequest.__struct_defaults__, strict=True)),
        "request_id": name,
        "prompt_token_ids": list(prompt or PROMPT),
        "sampling_params": None if pooling else params,
        "pooling_params": params if pooling else None,
        "arrival_time": time.time(),
        **more,
    }
    known = classes.EngineCoreRequest.__struct_fields__
    return classes.EngineCoreRequest(**{field: value for field, value in fields.items() if field in known})


def _defaulted(struct: Any) -> tuple[str, ...]:
    fields: tuple[str, ...] = struct.__struct_fields__
    return fields[len(fields) - len(struct.__struct_defaults__) :]


class InputProcessor:
    """Stands for vLLM's own, which needs a tokenizer: prompts are token ids here.

    A prompt of 999 tokens is refused, as one that is too long for the model.
    """

    TOO_LONG = 999

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._count = 0
        self.tokenizer = None

    def __getattr__(self, name: str) -> Any:
        return Stub(f"input_processor.{name}")

    def process_inputs(self, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return an engine request; before 0.11.1 as the second of a pair."""
        tokens = prompt["prompt_token_ids"]
        if len(tokens) == self.TOO_LONG:
            raise ValueError("The prompt is longer than the maximum model length")
        if isinstance(params, self._classes.SamplingParams):
            params = params.clone()
        made = request(self._classes, request_id, params, tokens, resumable=kwargs.get("resumable", False))
        return (None, made) if _pairs(self._classes) else made

    async def process_inputs_async(self, *args: Any, **kwargs: Any) -> Any:
        """Return an engine request (0.31)."""
        return self.process_inputs(*args, **kwargs)

    def assign_request_id(self, made: Any) -> None:
        """Give the request an internal id (0.14)."""
        self._count += 1
        made.external_req_id = made.request_id
        made.request_id = f"{made.request_id}-{self._count:08x}"


def _pairs(classes: Classes) -> bool:
    return "prompt_str, request = self.processor" in classes.source_of_engine


class Tokenizer:
    """A tokenizer that makes ``<7>`` of token 7 (in the stubbed ``detokenize_incrementally``)."""

    eos_token_id = 2

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"tokenizer.{name}")

    def encode(self, text: Any, **kwargs: Any) -> list[int]:
        """Return the same tokens for every text."""
        return list(PROMPT)

    def get_lora_tokenizer(self, lora_request: Any = None) -> Any:
        """Return itself: before 0.10 a tokenizer group is passed round."""
        return self


def processor(classes: Classes, log_stats: bool, kind: Any = None) -> Any:
    """Return a real output processor."""
    return (kind or classes.OutputProcessor)(Tokenizer(), log_stats=log_stats)


class World:
    """Engines of one version.

    Args:
        classes: the real classes.
        log_stats: whether engines keep statistics.
        kinds: classes to make objects of instead, by name of the real ones (see :func:`compat.hooks.without`).
    """

    def __init__(self, classes: Classes, log_stats: bool, kinds: dict[str, Any] | None = None) -> None:
        self.classes = classes
        self.log_stats = log_stats
        self._kinds = kinds or {}

    def processor(self) -> Any:
        """Return an ``OutputProcessor``."""
        return processor(self.classes, self.log_stats, self._kinds.get("OutputProcessor"))

    def sync_engine(self) -> Any:
        """Return an ``LLMEngine``."""
        engine = self._driven("LLMEngine")
        engine.dp_group = None
        engine.external_launcher_dp = False
        engine.should_execute_dummy_batch = False
        return engine

    def async_engine(self) -> Any:
        """Return an ``AsyncLLM``; call it where an event loop runs."""
        engine = self._driven("AsyncLLM")
        engine.log_requests = False
        engine.output_handler = None
        engine.admission_stats = None
        engine._pause_cond = asyncio.Condition()
        engine._paused = False
        engine._client_count = 1
        return engine

    def llm(self) -> Any:
        """Return an ``LLM`` on an ``LLMEngine``."""
        engine, settings = self.sync_engine(), config()
        base = self._kinds.get("LLM", self.classes.LLM)
        llm = object.__new__(_with_defaults(base, PREPROCESSING))
        llm.__dict__.update(
            llm_engine=engine,
            processor=engine.processor,
            input_processor=engine.processor,
            engine_class=self.classes.LLMEngine,
            request_counter=_counter(),
            model_config=settings.model_config,
            runner_type="generate",
            supported_tasks=("generate",),
            default_sampling_params=None,
        )
        return llm

    def _driven(self, name: str) -> Any:
        base = self._kinds.get(name, getattr(self.classes, name))
        settings, engine = config(), object.__new__(_with_defaults(base, {}))
        inputs = InputProcessor(self.classes)
        engine.__dict__.update(
            vllm_config=settings,
            model_config=settings.model_config,
            scheduler_config=settings.scheduler_config,
            observability_config=settings.observability_config,
            cache_config=settings.cache_config,
            log_stats=self.log_stats,
            processor=inputs,
            input_processor=inputs,
            output_processor=self.processor(),
            engine_core=Core(self.classes, self.log_stats),
            logger_manager=None,
            stat_logger=None,
            stat_loggers=[],
            renderer=_renderer(),
            tokenizer=None,
        )
        return engine


def _renderer() -> Stub:
    renderer = Stub("renderer")
    renderer.__dict__.update(mm_processor_cache=None, tokenizer=None)
    return renderer


def _counter() -> Any:
    return importlib.import_module("vllm.entrypoints.llm").Counter()


def _with_defaults(base: Any, methods: dict[str, Callable[..., Any]]) -> Any:
    """Return a subclass in which attributes that its constructor would have set are stubs."""

    def missing(self: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{base.__name__}.{name}")

    # `shutdown` and `__del__` are for processes and sockets that are not there.
    extra = {"__getattr__": missing, "__del__": lambda self: None}
    known = {name: method for name, method in methods.items() if hasattr(base, name)}
    made = type(base.__name__, (base,), {**extra, **known})
    made.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    return made


def _tokens(prompts: Any) -> list[Any]:
    return [{"type": "token", **prompt} for prompt in ([prompts] if isinstance(prompts, dict) else prompts)]


def _chats(messages: Any) -> list[Any]:
    conversations = messages if isinstance(messages[0], list) else [messages]
    return [{"type": "token", "prompt_token_ids": list(PROMPT)} for _ in conversations]


# Chat templates and tokenizers, which have moved often, are not what is shown here.
PREPROCESSING: dict[str, Callable[..., Any]] = {
    "_preprocess_completion": lambda self, prompts, *args, **kwargs: _tokens(prompts),
    "_preprocess_cmpl": lambda self, prompts, *args, **kwargs: _tokens(prompts),
    "_preprocess_cmpl_one": lambda self, prompt, *args, **kwargs: _tokens([prompt])[0],
    "_preprocess_chat": lambda self, messages, *args, **kwargs: _chats(messages),
    "_preprocess_chat_one": lambda self, conversation, *args, **kwargs: _chats([conversation])[0],
    "preprocess_chat": lambda self, messages, *args, **kwargs: _chats(messages),
    "get_tokenizer": lambda self, *args, **kwargs: Tokenizer(),
    "_resolve_mm_lora": lambda self, prompt, lora_request, *args, **kwargs: lora_request,
}
