"""Natural language inference: does the context entail each sentence of an answer?

A cross-encoder reads a window of the context and one sentence together and says how likely the one entails the other;
the best window counts, as in the zero-shot form of Laban et al., "SummaC" (2022).
"""

from __future__ import annotations

from traceai_vllm.evals.backends.models import LazyModel
from traceai_vllm.evals.errors import EvaluationError
from traceai_vllm.evals.grounding.checker import ClaimVerdict, Finding
from traceai_vllm.evals.grounding.claims import Span, sentences

_FLAG = 0.5
_CERTAIN = 1e-4


class NLIChecker:
    """Says for each sentence of an answer how likely the context entails it, by a cross-encoder.

    Args:
        model: a directory or a name on the Hugging Face hub, e.g. ``cross-encoder/nli-deberta-v3-base``; one of its
            labels must be called entailment.
        device: a device of torch; a GPU if there is one when None.
        max_length: the longest input in tokens; at most what the model takes.
        stride: by how many tokens the windows of a long context overlap.
        batch_size: how many windows are read at a time.
    """

    timeout_s = 60.0  # the first evaluation loads the model

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        max_length: int | None = 512,
        stride: int = 64,
        batch_size: int = 16,
    ) -> None:
        self._model = LazyModel(
            model, "AutoModelForSequenceClassification", "the NLI checker", device=device, max_length=max_length
        )
        self._stride = stride
        self._batch_size = batch_size

    def check(self, response: str, context: str, question: str | None = None) -> list[ClaimVerdict]:
        """Return a verdict for each sentence.

        Args:
            response: the answer.
            context: the passages.
            question: not used: a sentence is entailed or not, whatever was asked.

        Raises:
            MissingExtra: transformers or torch is not installed.
            EvaluationError: the model cannot be loaded, has no label for entailment, or a sentence is longer than its
                input.
        """
        del question
        return [self._verdict(span, response[span.start : span.end], context) for span in sentences(response)]

    def _verdict(self, span: Span, claim: str, context: str) -> ClaimVerdict:
        wrong = min(max(1.0 - self._entailed(claim, context), _CERTAIN), 1 - _CERTAIN)
        found = (Finding(span.start, span.end, "does not follow from the context"),) if wrong >= _FLAG else ()
        return ClaimVerdict(span.start, span.end, wrong, found)

    def _entailed(self, claim: str, context: str) -> float:
        """The probability that the best window entails the claim."""
        tokenizer, limit = self._model.tokenizer, self._model.max_length
        claimed = len(tokenizer(claim, add_special_tokens=False)["input_ids"])
        room = limit - claimed - tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise EvaluationError(
                f"a sentence of the answer does not fit into the {limit} tokens of {self._model.name}"
            )
        windows = tokenizer(
            context,
            claim,
            truncation="only_first",
            max_length=limit,
            stride=min(self._stride, room - 1),
            return_overflowing_tokens=True,
        )
        windows.pop("overflow_to_sample_mapping", None)
        label = self._label()
        best = 0.0
        for first in range(0, len(windows["input_ids"]), self._batch_size):
            batch = {name: values[first : first + self._batch_size] for name, values in windows.items()}
            padded = tokenizer.pad(batch, return_tensors="pt")
            best = max(best, float(self._model.probabilities(padded)[:, label].max()))
        return best

    def _label(self) -> int:
        labels = {int(index): str(name).lower() for index, name in self._model.config.id2label.items()}
        found = [index for index, name in labels.items() if name.startswith("entail")]
        if len(found) != 1:
            raise EvaluationError(
                f"{self._model.name} has the labels {sorted(labels.values())}, and none is entailment"
            )
        return found[0]
