"""A token classifier that marks what an answer says and its context does not: LettuceDetect's models.

Kovács and Recski, "LettuceDetect: A Hallucination Detection Framework for RAG Applications", arXiv 2502.17125. The
input has the form that these models were trained on (their package, version 0.2.3): a prompt with the passages, and the
answer as second segment. Class 1 is a token that is not supported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.evals.backends.models import LazyModel
from traceai_vllm.evals.errors import EvaluationError
from traceai_vllm.evals.grounding.checker import ClaimVerdict, Finding
from traceai_vllm.evals.grounding.claims import sentences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_QUESTION = """Briefly answer the following question:
{question}
Bear in mind that your response should be strictly based on the following {count} passages:
{passages}
In case the passages do not contain the necessary information to answer the question, please reply with: \
"Unable to answer based on given passages."
output:"""
_SUMMARY = """Summarize the following text:
{passages}
output:"""
_FLAG = 0.5
_SPECIAL = 3
_CERTAIN = 1e-4


class TokenDetector:
    """Finds the words of an answer that its context does not support, by a token classifier.

    A context that is longer than the model's input is read in groups of passages. A word counts as supported if one
    group supports it. (LettuceDetect's package asks that every group does, which no word of a long context can meet.)

    Args:
        model: a directory or a name on the Hugging Face hub, e.g. ``KRLabsOrg/lettucedect-base-modernbert-en-v1``.
        device: a device of torch; a GPU if there is one when None.
        max_length: the longest input in tokens; at most what the model takes.
    """

    timeout_s = 60.0  # the first evaluation loads the model

    def __init__(self, model: str, *, device: str | None = None, max_length: int | None = 4096) -> None:
        purpose = "the token-level detector"
        self._model = LazyModel(model, "AutoModelForTokenClassification", purpose, device=device, max_length=max_length)

    def check(self, response: str, context: str, question: str | None = None) -> list[ClaimVerdict]:
        """Return a verdict for each sentence: that of its worst token.

        Args:
            response: the answer.
            context: the passages, with blank lines between them.
            question: what was asked; without one the answer is taken for a summary.

        Raises:
            MissingExtra: transformers or torch is not installed.
            EvaluationError: the model cannot be loaded, or the answer is longer than its input.
        """
        tokens = self.tokens(response, [part for part in context.split("\n\n") if part.strip()], question)
        return [_verdict(span.start, span.end, tokens) for span in sentences(response)]

    def tokens(self, response: str, passages: Sequence[str], question: str | None) -> list[tuple[int, int, float]]:
        """Return the tokens of an answer: start and end in characters, and the probability of no support."""
        groups = [self._group(group, response, question) for group in self._groups(passages, response, question)]
        best = [min(scores) for scores in zip(*(scores for _, scores in groups), strict=True)]
        return [(start, end, score) for (start, end), score in zip(groups[0][0], best, strict=True)]

    def _group(
        self, passages: Sequence[str], response: str, question: str | None
    ) -> tuple[list[tuple[int, int]], list[float]]:
        encoding = self._model.tokenizer(
            _prompt(passages, question),
            response,
            truncation="only_first",
            max_length=self._model.max_length,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = encoding.pop("offset_mapping")[0].tolist()
        marks = encoding.sequence_ids(0)
        encoding.pop("token_type_ids", None)  # the models were trained without
        wrong = self._model.probabilities(encoding)[0, :, 1].tolist()
        kept = [i for i, mark in enumerate(marks) if mark == 1 and offsets[i][0] < offsets[i][1]]
        return [(offsets[i][0], offsets[i][1]) for i in kept], [wrong[i] for i in kept]

    def _groups(self, passages: Sequence[str], response: str, question: str | None) -> Iterator[list[str]]:
        room = self._model.max_length - self._length(response) - self._length(_prompt([""], question)) - _SPECIAL
        if room < 1:
            raise EvaluationError(
                f"the answer does not fit into the {self._model.max_length} tokens that {self._model.name} takes"
            )
        group: list[str] = []
        used = 0
        for number, passage in enumerate(passages, 1):
            length = self._length(f"passage {number}: {passage}\n")
            if group and used + length > room:
                yield group
                group, used = [], 0
            group.append(passage)
            used += length
        if group:
            yield group

    def _length(self, text: str) -> int:
        return len(self._model.tokenizer(text, add_special_tokens=False)["input_ids"])


def _prompt(passages: Sequence[str], question: str | None) -> str:
    block = "\n".join(f"passage {number}: {passage}" for number, passage in enumerate(passages, 1))
    if question is None:
        return _SUMMARY.format(passages=block)
    return _QUESTION.format(question=question, count=len(passages), passages=block)


def _verdict(start: int, end: int, tokens: Sequence[tuple[int, int, float]]) -> ClaimVerdict:
    inside = [token for token in tokens if token[0] < end and token[1] > start]
    worst = max((token[2] for token in inside), default=_FLAG)
    return ClaimVerdict(start, end, min(max(worst, _CERTAIN), 1 - _CERTAIN), tuple(_findings(inside)))


def _findings(tokens: Sequence[tuple[int, int, float]]) -> Iterator[Finding]:
    run: tuple[int, int] | None = None
    for start, end, wrong in tokens:
        if wrong >= _FLAG:
            run = (run[0] if run else start, end)
        elif run:
            yield Finding(run[0], run[1], "is not supported by the context")
            run = None
    if run:
        yield Finding(run[0], run[1], "is not supported by the context")
