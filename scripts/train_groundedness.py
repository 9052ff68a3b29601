"""Learn the weights of the embedded Groundedness, and say how good they are.

    python scripts/train_groundedness.py DATA                  # cross-validate, train on all, write the weights
    python scripts/train_groundedness.py DATA --no-write       # only the figures

DATA (or $TRACEAI_EVAL_DATA) is a folder with groundedness_*.jsonl and halueval_*.jsonl. Needs scikit-learn; a minute.

Four small models say what is wrong with a claim: its words (learned from answers as they are), its numbers and its names
(learned from some swapped for others, most of them from the same context), or that it denies what the context says
(learned from verbs denied). All are boosted trees in which each feature may move the probability one way only, which keeps what
is learned from one kind of text true on another. A claim is unsupported if any of the four finds it so (noisy-or);
how far each is believed is fitted on all examples. Answers with one context always stay in one fold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from groundedness_examples import FOLDS, SETS, Example, read_all
from traceai_vllm.evals.grounding.checker import CERTAIN
from traceai_vllm.evals.grounding.features import CLAIM_FEATURES
from traceai_vllm.evals.grounding.names import NAME_FEATURES
from traceai_vllm.evals.grounding.numbers import NUMBER_FEATURES
from traceai_vllm.evals.grounding.polarity import POLARITY_FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "src" / "traceai_vllm" / "evals" / "data" / "groundedness.json"
VERSION = "6"
# How much rarer unsupported claims are taken to be than in the examples, where either label has half of the weight: as
# log odds. At this figure 0.5 is a good least score for RAG answers, and no worse for swapped numbers.
PRIOR = -0.55
DEPTH = 3
WORDS_FROM = ("groundedness_ragtruth", "groundedness_wice", "halueval_summarization")
MADE_SHARES = {"polarity": 0.15, "names": 0.1}  # more of them costs more on answers as they are than it gains
SWAPPED_SHARE = 0.5
NOTHING = -30.0
# Of the figures that say how far each part is believed. A sure denial counts whole: few examples here have one.
BOUNDS = [(-4, 4), (0, 3), (-6, 3), (1, 3), (-6, 3), (0, 3), (-6, 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=os.environ.get("TRACEAI_EVAL_DATA"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        parser.error("give the data folder, or set TRACEAI_EVAL_DATA")
    print("reading the examples", flush=True)
    table = Table(list(read_all(Path(options.data))))
    print("cross-validating", flush=True)
    parts = parts_of(table)
    mix = fit_mix(table, parts)
    print(f"how far words, numbers, denials and names are believed: {np.round(mix, 2)}", flush=True)
    figures = measured(table, answer_odds(table, with_prior(mixed(parts, mix))))
    print(json.dumps(figures, indent=2))
    if not options.no_write:
        options.output.write_text(
            json.dumps(weights(Path(options.data), table, mix, figures), separators=(",", ":")) + "\n"
        )
        print(f"{options.output.name}: {options.output.stat().st_size / 1e3:.0f} kB")


def out_of_fold(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Each answer's scores from models that saw no answer with its context, by set and ``id``; for benchmarks.

    Args:
        folder: the data.
    """
    table = Table(list(read_all(folder)))
    parts = parts_of(table)
    wrong = with_prior(mixed(parts, fit_mix(table, parts)))
    worst = np.zeros(len(table.examples))
    np.maximum.at(worst, table.owners, wrong)
    together = sigmoid(answer_odds(table, wrong))
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in SETS}
    for one, risk, most in zip(table.examples, together, worst, strict=True):
        if not one.made:
            found[one.set][one.row["id"]] = {"Groundedness": 1.0 - risk, "HallucinationScore": 1.0 - most}
    return found


class Table:
    """The claims of all examples in arrays; `owners` says whose each is."""

    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples
        claims = [(index, claim) for index, one in enumerate(examples) for claim in one.view.claims]
        self.owners = np.array([index for index, _ in claims])
        self.words = np.array([claim.features for _, claim in claims])
        self.polarity = np.array([claim.contrast.features for _, claim in claims])
        self.labels = np.array([label for one in examples for label in one.claims])
        self.contradicted = np.array([bool(claim.contradictions) for _, claim in claims])
        self.numbers = np.array([number.features for _, claim in claims for number in claim.numbers])
        self.number_claims = np.array([place for place, (_, claim) in enumerate(claims) for _ in claim.numbers])
        self.number_labels = np.array([label for one in examples for label in one.figures])
        self.names = np.array([name.features for _, claim in claims for name in claim.names])
        self.name_claims = np.array([place for place, (_, claim) in enumerate(claims) for _ in claim.names])
        self.name_labels = np.array([label for one in examples for label in one.named])
        self.sets = np.array([examples[index].set for index in self.owners])
        self.made = np.array([examples[index].made for index in self.owners])
        self.folds = np.array([examples[index].fold for index in self.owners])

    def weights(self, chosen: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
        """Weights that give each set its share, half of it to either label."""
        found = np.zeros(len(self.labels))
        for name, share in shares.items():
            for label in (0, 1):
                these = chosen & (self.sets == name) & (self.labels == label)
                found[these] = share / max(1, these.sum())
        return found


@dataclass
class Parts:
    """For each claim the log odds that its words, its numbers, its denials or its names are wrong; contradictions."""

    words: np.ndarray
    numbers: np.ndarray
    polarity: np.ndarray
    names: np.ndarray
    contradicted: np.ndarray


# --- learning ---------------------------------------------------------------------------------------------


def trees(directions: Mapping[str, int], count: int, leaf: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=count,
        learning_rate=0.06,
        max_depth=DEPTH,
        min_samples_leaf=leaf,
        l2_regularization=8,
        monotonic_cst=list(directions.values()),
        max_bins=128,
        early_stopping=False,
        random_state=0,
    )


@dataclass
class Line:
    """A logistic regression on standardised features, none of which may point against its direction."""

    scaler: StandardScaler
    weights: np.ndarray
    bias: float

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        """The log odds, under scikit-learn's name for them."""
        return self.scaler.transform(rows) @ self.weights + self.bias


def line(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, directions: Mapping[str, int]) -> Line:
    scaler = StandardScaler().fit(rows)
    scaled, signs = scaler.transform(rows), np.array(list(directions.values()))
    kept = np.ones(len(signs), bool)
    while True:
        model = LogisticRegression(C=0.1, max_iter=1000).fit(scaled[:, kept], labels, sample_weight=weights)
        found = np.zeros(len(signs))
        found[kept] = model.coef_[0]
        against = found * signs < 0
        if not against.any():
            return Line(scaler, found, float(model.intercept_[0]))
        kept &= ~against


def fit_words(table: Table, train: np.ndarray) -> tuple[Any, ...]:
    chosen = train & (table.made == "") & (table.labels >= 0)
    weight = table.weights(chosen, {name: SETS[name] for name in WORDS_FROM})
    chosen = weight > 0
    rows, labels, weight = table.words[chosen], table.labels[chosen], weight[chosen] / weight[chosen].mean()
    return (
        trees(CLAIM_FEATURES, 150, 40).fit(rows, labels, sample_weight=weight),
        line(rows, labels, weight, CLAIM_FEATURES),
    )


def fit_numbers(table: Table, train: np.ndarray) -> tuple[Any, ...]:
    chosen = train[table.number_claims] & (table.number_labels >= 0)
    return (trees(NUMBER_FEATURES, 200, 30).fit(table.numbers[chosen], table.number_labels[chosen]),)


def fit_names(table: Table, train: np.ndarray) -> tuple[Any, ...]:
    chosen = train[table.name_claims] & (table.name_labels >= 0)
    labels = table.name_labels[chosen]
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    return (trees(NAME_FEATURES, 120, 60).fit(table.names[chosen], labels, sample_weight=weight / weight.mean()),)


def fit_polarity(table: Table, train: np.ndarray) -> tuple[Any, ...]:
    denied = (table.made == "polarity") & (table.labels == 1)
    chosen = train & (denied | ((table.labels == 0) & np.isin(table.sets, WORDS_FROM)))
    labels = denied[chosen]
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    rows = table.polarity[chosen]
    return (trees(POLARITY_FEATURES, 80, 60).fit(rows, labels, sample_weight=weight / weight.mean()),)


def rows_of(table: Table, fit: Any) -> np.ndarray:
    return {
        fit_words: table.words,
        fit_numbers: table.numbers,
        fit_polarity: table.polarity,
        fit_names: table.names,
    }[fit]


def claims_of(table: Table, fit: Any) -> np.ndarray:
    """The claim of each row."""
    owners = {fit_numbers: table.number_claims, fit_names: table.name_claims}
    return owners.get(fit, np.arange(len(table.labels)))


def crossed(table: Table, fit: Callable[[Table, np.ndarray], tuple[Any, ...]]) -> np.ndarray:
    """Each claim's log odds from models that saw no answer with its context; of several numbers or names the worst counts."""
    rows = rows_of(table, fit)
    claims = claims_of(table, fit)
    folds = table.folds[claims]
    odds = np.zeros(len(rows))
    for fold in range(FOLDS):
        models = fit(table, table.folds != fold)
        inside = folds == fold
        odds[inside] = sum(model.decision_function(rows[inside]) for model in models) / len(models)
    worst = np.full(len(table.labels), NOTHING)
    np.maximum.at(worst, claims, odds)
    return worst


def parts_of(table: Table) -> Parts:
    """What is wrong with each claim, as models say that were fitted without it."""
    models = (fit_words, fit_numbers, fit_polarity, fit_names)
    return Parts(*(crossed(table, fit) for fit in models), table.contradicted)


def mixed(parts: Parts, mix: np.ndarray) -> np.ndarray:
    """The probability that any of the four is wrong, or contradicted in so many words."""
    right = sigmoid(-(parts.words + mix[0])) * sigmoid(-(mix[3] * parts.polarity + mix[4]))
    for odds, scale, offset in ((parts.numbers, *mix[1:3]), (parts.names, *mix[5:7])):
        right *= np.where(odds > NOTHING, sigmoid(-(scale * odds + offset)), 1.0)
    right[parts.contradicted] *= 1.0 - CERTAIN
    return np.clip(1.0 - right, 1e-9, 1.0 - 1e-9)


def with_prior(wrong: np.ndarray) -> np.ndarray:
    """The same where unsupported claims are rarer (Elkan 2001, theorem 2)."""
    return sigmoid(np.log(wrong / (1.0 - wrong)) + PRIOR)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -30, 30)))


def fit_mix(table: Table, parts: Parts) -> np.ndarray:
    """How far each of the four is believed: the most likely seven figures."""
    shares = {name: SWAPPED_SHARE if "numswap" in name else share for name, share in SETS.items()}
    weight = table.weights((table.made == "") & (table.labels >= 0), shares)
    for made, share in MADE_SHARES.items():
        for label in (0, 1):
            these = (table.made == made) & (table.labels == label)
            weight[these] = share / these.sum()
    used, bad = weight > 0, table.labels == 1

    def loss(mix: np.ndarray) -> float:
        wrong = mixed(parts, mix)
        said = np.log(np.where(bad, wrong, 1.0 - wrong))
        return float(-(weight * said)[used].sum() + 0.001 * (mix**2).sum())

    return minimize(loss, [0, 1, -1, 1, -2, 1, -2], method="Powell", bounds=BOUNDS).x


# --- figures ----------------------------------------------------------------------------------------------


def answer_odds(table: Table, wrong: np.ndarray) -> np.ndarray:
    """As ``checker.together`` does."""
    total = np.full(len(table.examples), -np.inf)
    np.logaddexp.at(total, table.owners, 2 * np.log(wrong / (1.0 - wrong)))
    return total / 2


def measured(table: Table, odds: np.ndarray) -> dict[str, Any]:
    plain = np.array([one.made == "" for one in table.examples])
    sets = np.array([one.set for one in table.examples])
    bad = np.array([one.bad for one in table.examples])
    auroc = {
        name: round(float(roc_auc_score(bad[use], odds[use])), 3) for name in SETS for use in [plain & (sets == name)]
    }
    by_score = {f"{score:.2f}": f1s(sets, bad, odds, plain, score) for score in (0.2, 0.3, 0.4, 0.5, 0.6)}
    return {"cross_validated_auroc": auroc, "cross_validated_f1_by_least_score": by_score}


def f1s(sets: np.ndarray, bad: np.ndarray, odds: np.ndarray, plain: np.ndarray, score: float) -> dict[str, float]:
    """F1 of finding what is unsupported, by set, where answers below a score are called so."""
    called = sigmoid(-odds) < score
    return {name: f1(bad[use], called[use]) for name in SETS for use in [plain & (sets == name)]}


def f1(bad: np.ndarray, called: np.ndarray) -> float:
    return round(2 * float((called & bad).sum()) / float(called.sum() + bad.sum()), 3)


# --- writing ----------------------------------------------------------------------------------------------


def weights(folder: Path, table: Table, mix: np.ndarray, figures: dict[str, Any]) -> dict[str, Any]:
    """The weights, learned on all examples; how they mix, as cross-validation found it."""
    everything = np.ones(len(table.labels), bool)
    words, linear = fit_words(table, everything)
    return {
        "version": VERSION,
        "trained_on": {name: digest(folder / f"{name}.jsonl") for name in SETS},
        "measured_on": "the data it was tuned on, cross-validated by context; for development only",
        **figures,
        "words": exported(words, CLAIM_FEATURES),
        "words_linear": {
            "features": list(CLAIM_FEATURES),
            "mean": rounded(linear.scaler.mean_),
            "scale": rounded(linear.scaler.scale_),
            "weights": rounded(linear.weights),
            "bias": round(linear.bias, 6),
        },
        "numbers": exported(fit_numbers(table, everything)[0], NUMBER_FEATURES),
        "names": exported(fit_names(table, everything)[0], NAME_FEATURES),
        "polarity": exported(fit_polarity(table, everything)[0], POLARITY_FEATURES),
        "prior": PRIOR,
        "mix": {
            name: {"scale": round(float(scale), 4), "offset": round(float(offset), 4)}
            for name, scale, offset in (
                ("words", 1.0, mix[0]),
                ("numbers", *mix[1:3]),
                ("polarity", *mix[3:5]),
                ("names", *mix[5:7]),
            )
        },
    }


def digest(file: Path) -> str:
    """The SHA-256 of a file; who measures on one of these files measures what was learned by heart."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def exported(model: HistGradientBoostingClassifier, features: Mapping[str, int]) -> dict[str, Any]:
    """The trees with every branch drawn out to the same depth."""
    inner = 2**DEPTH - 1
    split_features, split_values, leaves = [], [], []
    for (tree,) in model._predictors:
        nodes, at = tree.nodes, [0] * (2 * inner + 1)
        chosen, values = [0] * inner, [0.0] * inner
        for place in range(inner):
            node, children = nodes[at[place]], slice(2 * place + 1, 2 * place + 3)
            if node["is_leaf"]:
                at[children] = [at[place]] * 2
            else:
                chosen[place], values[place] = int(node["feature_idx"]), float(node["num_threshold"])
                at[children] = [int(node["left"]), int(node["right"])]
        split_features.append(chosen)
        split_values.append(rounded(values))
        leaves.append(rounded([nodes[index]["value"] for index in at[inner:]]))
    return {
        "features": list(features),
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
