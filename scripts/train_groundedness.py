"""Learn the weights of the embedded Groundedness, and say how good they are.

    python scripts/train_groundedness.py DATA                  # cross-validate, train on all, write the weights
    python scripts/train_groundedness.py DATA --no-write       # only the figures

DATA (or $TRACEAI_EVAL_DATA) is a folder with groundedness_*.jsonl and halueval_*.jsonl. Needs scikit-learn.

Two models: one says whether a number of a claim is wrong, the other whether a claim is unsupported, the first one's
word among its features. Both are boosted trees in which each feature may move the probability one way only, which keeps
what is learned from one kind of text true on another. Beside the data as they are, numbers of supported answers are
swapped for others, half of them from the same context. Answers with one context always stay in one fold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from traceai_vllm.evals.grounding.checker import embedded_checker
from traceai_vllm.evals.grounding.features import CLAIM_DIRECTIONS, CLAIM_FEATURES, AnswerView, claim_row
from traceai_vllm.evals.grounding.numbers import NUMBER_DIRECTIONS, NUMBER_FEATURES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "src" / "traceai_vllm" / "evals" / "data" / "groundedness.json"
VERSION = "1"
# How much each set weighs. HaluEval's answers come from one model told to hallucinate: it says little about others.
SETS = {
    "groundedness_ragtruth": 1.0,
    "groundedness_numswap": 1.0,
    "groundedness_numswap_incontext": 1.0,
    "groundedness_wice": 1.0,
    "halueval_dialogue": 0.1,
    "halueval_summarization": 0.3,
}
SWAPPED_TOO = ("groundedness_ragtruth", "groundedness_wice", "halueval_summarization")
FOLDS = 5
DEPTH = 3
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass
class Example:
    """One answer with its claims, as features."""

    set: str
    fold: int
    bad: bool
    made: bool  # a swap of ours
    view: AnswerView
    claim_labels: list[int]  # -1: unknown
    number_labels: list[int] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=os.environ.get("TRACEAI_EVAL_DATA"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        parser.error("give the data folder, or set TRACEAI_EVAL_DATA")
    examples = list(read_all(Path(options.data)))
    figures = cross_validated(examples)
    print(json.dumps(figures, indent=2))
    if not options.no_write:
        options.output.write_text(json.dumps(trained(examples, figures), separators=(",", ":")) + "\n")
        print(f"{options.output.name}: {options.output.stat().st_size / 1e3:.0f} kB")


# --- reading ----------------------------------------------------------------------------------------------


def read_all(folder: Path) -> Iterator[Example]:
    """Yield every answer, and swaps of the supported ones."""
    seed = random.Random(7)
    for name in SETS:
        for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            yield from example(name, row, made=False)
            if name in SWAPPED_TOO and not row["label_hallucinated"]:
                for swapped in swaps(row, seed):
                    yield from example(name, swapped, made=True)


def example(name: str, row: dict[str, Any], *, made: bool) -> Iterator[Example]:
    view = embedded_checker().view(row["response"], row["context"], row.get("question"))
    if not view.claims:
        return
    bad, spans = bool(row["label_hallucinated"]), row.get("spans") or []
    labels = [label(claim.span, bad, spans, len(view.claims)) for claim in view.claims]
    found = Example(name, fold_of(row["context"]), bad, made, view, labels)
    judged = made or "numswap" in name
    for claim in view.claims:
        for number in claim.numbers:
            q = number.quantity
            span = (view.words.spans[q.first][0], view.words.spans[q.last][1])
            known = 0 if not bad else int(touches(span, spans)) if judged and spans else -1
            found.number_labels.append(known if not name.startswith("halueval_dialogue") else -1)
    yield found


def label(span: tuple[int, int], bad: bool, spans: list[list[int]], claims: int) -> int:
    if not bad:
        return 0
    if spans:
        return int(touches(span, spans))
    return 1 if claims == 1 else -1


def touches(span: tuple[int, int], spans: list[list[int]]) -> bool:
    return any(start < span[1] and end > span[0] for start, end in spans)


def fold_of(context: str) -> int:
    return int(hashlib.sha256(context.strip()[:400].encode()).hexdigest(), 16) % FOLDS


def swaps(row: dict[str, Any], seed: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the answer with one of its numbers changed, for up to two of them."""
    text = row["response"]
    inside = list(dict.fromkeys(match[0] for match in _NUMBER.finditer(row["context"])))
    places = [match for match in _NUMBER.finditer(text) if match[0] in inside and text[: match.start()].strip()]
    for match in seed.sample(places, min(2, len(places))):
        others = [number for number in inside if number != match[0]]
        new = seed.choice(others) if others and seed.random() < 0.7 else str(seed.randint(2, 99))
        if new != match[0]:
            changed = text[: match.start()] + new + text[match.end() :]
            span = [match.start(), match.start() + len(new)]
            yield {**row, "response": changed, "label_hallucinated": True, "spans": [span]}


# --- learning ---------------------------------------------------------------------------------------------


def trees(directions: tuple[int, ...], count: int, rate: float, leaf: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=count,
        learning_rate=rate,
        max_depth=DEPTH,
        min_samples_leaf=leaf,
        l2_regularization=8,
        monotonic_cst=directions,
        max_bins=128,
        early_stopping=False,
        random_state=0,
    )


def number_table(examples: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = [(n.features, y, e.fold) for e in examples for n, y in zip(numbers(e), e.number_labels, strict=True)]
    return np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows])


def numbers(one: Example) -> list[Any]:
    return [number for claim in one.view.claims for number in claim.numbers]


def fit_numbers(rows: np.ndarray, labels: np.ndarray) -> HistGradientBoostingClassifier:
    return trees(NUMBER_DIRECTIONS, 150, 0.08, 30).fit(rows[labels >= 0], labels[labels >= 0])


def give_numbers(examples: list[Example], wrong: np.ndarray) -> None:
    each = iter(wrong)
    for one in examples:
        for number in numbers(one):
            number.wrong = float(next(each))


@dataclass
class Claims:
    """The claims of all examples in one table."""

    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    folds: np.ndarray
    owners: np.ndarray


def claim_table(examples: list[Example]) -> Claims:
    rows, labels, owners = [], [], []
    for index, one in enumerate(examples):
        for claim, known in zip(one.view.claims, one.claim_labels, strict=True):
            rows.append(claim_row(claim))
            labels.append(known)
            owners.append(index)
    label_array, owner_array = np.array(labels), np.array(owners)
    sets = np.array([examples[i].set for i in owners])
    made = np.array([examples[i].made for i in owners])
    weights = np.zeros(len(rows))
    for name, share in SETS.items():
        for known in (0, 1):
            chosen = (sets == name) & (label_array == known)
            if chosen.any():
                weights[chosen] = share / chosen.sum()
    weights[made] *= 0.6
    weights /= weights[weights > 0].mean()
    folds = np.array([examples[i].fold for i in owners])
    return Claims(np.array(rows), label_array, weights, folds, owner_array)


def fit_claims(table: Claims, chosen: np.ndarray) -> tuple[Any, Any, Any]:
    chosen = chosen & (table.labels >= 0)
    rows, labels, weights = table.rows[chosen], table.labels[chosen], table.weights[chosen]
    boosted = trees(CLAIM_DIRECTIONS, 150, 0.06, 40).fit(rows, labels, sample_weight=weights)
    scaler = StandardScaler().fit(rows)
    line = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(rows), labels, sample_weight=weights)
    return boosted, scaler, line


def claim_odds(models: tuple[Any, Any, Any], rows: np.ndarray) -> np.ndarray:
    boosted, scaler, line = models
    return (boosted.decision_function(rows) + line.decision_function(scaler.transform(rows))) / 2


def answer_odds(odds: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    total = np.full(count, -np.inf)
    np.logaddexp.at(total, owners, 2 * odds)
    return total / 2


# --- figures ----------------------------------------------------------------------------------------------


def cross_validated(examples: list[Example]) -> dict[str, Any]:
    """Return AUROC by set, each answer judged by models that saw no answer with its context."""
    rows, labels, folds = number_table(examples)
    wrong = np.zeros(len(rows))
    for fold in range(FOLDS):
        model = fit_numbers(rows[folds != fold], labels[folds != fold])
        wrong[folds == fold] = model.predict_proba(rows[folds == fold])[:, 1]
    give_numbers(examples, wrong)
    table = claim_table(examples)
    odds = np.zeros(len(table.rows))
    for fold in range(FOLDS):
        inside = table.folds == fold
        odds[inside] = claim_odds(fit_claims(table, ~inside), table.rows[inside])
    answers = answer_odds(odds, table.owners, len(examples))
    return {"cross_validated_auroc": by_set(examples, answers), "best_f1": best_f1(examples, answers)}


def by_set(examples: list[Example], scores: np.ndarray) -> dict[str, float]:
    figures = {}
    for name in SETS:
        chosen = [i for i, one in enumerate(examples) if one.set == name and not one.made]
        figures[name] = round(float(roc_auc_score([examples[i].bad for i in chosen], scores[chosen])), 3)
    return figures


def best_f1(examples: list[Example], odds: np.ndarray) -> dict[str, float]:
    """The threshold that is best on RAGTruth, and what it gives there."""
    chosen = [i for i, one in enumerate(examples) if one.set == "groundedness_ragtruth" and not one.made]
    bad = np.array([examples[i].bad for i in chosen])
    best = (0.0, 0.0)
    for at in np.unique(odds[chosen]):
        called = odds[chosen] >= at
        best = max(best, (2 * float((called & bad).sum()) / float(called.sum() + bad.sum()), float(at)))
    return {"ragtruth_f1": round(best[0], 3), "log_odds": round(best[1], 3)}


# --- writing ----------------------------------------------------------------------------------------------


def trained(examples: list[Example], figures: dict[str, Any]) -> dict[str, Any]:
    """Return the weights, learned on all examples. Claims learn from numbers as cross-validation judged them."""
    rows, labels, _ = number_table(examples)
    table = claim_table(examples)
    boosted, scaler, line = fit_claims(table, np.ones(len(table.rows), bool))
    return {
        "version": VERSION,
        "measured_on": "the data it was tuned on, cross-validated by context; for development only",
        **figures,
        "offset": 0.0,
        "numbers": exported(fit_numbers(rows, labels), NUMBER_FEATURES),
        "claims": exported(boosted, CLAIM_FEATURES),
        "claims_linear": {
            "features": CLAIM_FEATURES,
            "mean": rounded(scaler.mean_),
            "scale": rounded(scaler.scale_),
            "weights": rounded(line.coef_[0]),
            "bias": round(float(line.intercept_[0]), 6),
        },
    }


def exported(model: HistGradientBoostingClassifier, features: tuple[str, ...]) -> dict[str, Any]:
    """Return the trees with every branch drawn out to the same depth."""
    inner = 2**DEPTH - 1
    split_features, split_values, leaves = [], [], []
    for (tree,) in model._predictors:
        nodes = tree.nodes
        at = [0] * inner + [0] * (inner + 1)
        chosen, values = [0] * inner, [0.0] * inner
        for place in range(2 * inner + 1):
            node = nodes[at[place]]
            if place >= inner:
                continue
            if node["is_leaf"]:
                at[2 * place + 1] = at[2 * place + 2] = at[place]
            else:
                chosen[place], values[place] = int(node["feature_idx"]), float(node["num_threshold"])
                at[2 * place + 1], at[2 * place + 2] = int(node["left"]), int(node["right"])
        split_features.append(chosen)
        split_values.append(rounded(values))
        leaves.append(rounded([nodes[index]["value"] for index in at[inner:]]))
    return {
        "features": features,
        "depth": DEPTH,
        "bias": round(float(model._baseline_prediction[0, 0]), 6),
        "split_features": split_features,
        "split_values": split_values,
        "leaves": leaves,
    }


def rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


if __name__ == "__main__":
    main()
