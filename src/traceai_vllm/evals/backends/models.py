"""Load a model of transformers, once, when it is first needed."""

from __future__ import annotations

import threading
from typing import Any, Literal

from traceai_vllm.evals.errors import EvaluationError, optional

Kind = Literal["AutoModelForTokenClassification", "AutoModelForSequenceClassification"]
_ENOUGH = 1 << 20  # tokenizers without a limit of their own say 1e30


class LazyModel:
    """A tokenizer and a model that are loaded by the first use. Only the name is pickled.

    Args:
        name: a directory, or a name on the Hugging Face hub.
        kind: the auto class that loads it.
        purpose: what needs it, for messages.
        device: a device of torch; a GPU if there is one when None.
        max_length: the longest input in tokens; what the model takes when None.
    """

    def __init__(self, name: str, kind: Kind, purpose: str, *, device: str | None, max_length: int | None) -> None:
        self.name = name
        self._kind = kind
        self._purpose = purpose
        self._device = device
        self._max_length = max_length
        self._loaded: tuple[Any, Any, Any] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._parts()[0]

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self._parts()[1].config

    @property
    def max_length(self) -> int:
        """The longest input in tokens."""
        known = (self.tokenizer.model_max_length, getattr(self.config, "max_position_embeddings", None))
        limits = [int(limit) for limit in known if limit and limit < _ENOUGH]
        return min([*limits, self._max_length] if self._max_length else limits or [512])

    def probabilities(self, encoding: Any) -> Any:
        """Return the softmax of the model's outputs, as a tensor in CPU memory.

        Args:
            encoding: what the tokenizer returned, with ``return_tensors="pt"``.
        """
        _, network, torch = self._parts()
        with torch.inference_mode():
            logits = network(**encoding.to(network.device)).logits
        return torch.softmax(logits.float(), dim=-1).cpu()

    def _parts(self) -> tuple[Any, Any, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded

    def _load(self) -> tuple[Any, Any, Any]:
        torch = optional("torch", self._purpose, "models")
        transformers = optional("transformers", self._purpose, "models")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.name)
            network = getattr(transformers, self._kind).from_pretrained(self.name)
        except OSError as error:
            raise EvaluationError(
                f"{self._purpose} cannot load {self.name!r}: it is no directory with a model, and not in the local "
                f"cache of the Hugging Face hub. Where there is a network, type: hf download {self.name}"
            ) from error
        if not tokenizer.is_fast:
            raise EvaluationError(f"{self._purpose} needs a fast tokenizer, and {self.name!r} has none")
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        return tokenizer, network.to(device).eval(), torch
