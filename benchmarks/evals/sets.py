"""The labelled answers, and what every arm scores them. None of the answers are in the repository."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evals import floors
from traceai_vllm.evals import Groundedness, HallucinationScore
from traceai_vllm.evals.grounding.checker import packaged_weights

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class LabelledSet:
    """One file of labelled answers.

    Attributes:
        name: of the file, without its ending.
        rows: as the file has them.
        seen: whether the packaged weights were learned from this very file.
        scores: by arm, one for each row, higher is better; None where the arm gave none.
    """

    name: str
    rows: list[dict[str, Any]]
    seen: bool
    scores: dict[str, list[float | None]] = field(default_factory=dict)


def read(folder: Path) -> list[LabelledSet]:
    """Return the sets of a folder: every ``*.jsonl`` whose rows have a context and ``label_hallucinated``."""
    learned = set(packaged_weights()["trained_on"].values())
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        if rows and {"context", "response", "label_hallucinated"} <= rows[0].keys():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            found.append(LabelledSet(file.stem, rows, digest in learned))
    return found


def score_with_ours(sets: list[LabelledSet], folder: Path) -> None:
    """Score with the packaged weights; a set that they were learned from, by cross-validation instead."""
    evaluators = {"Groundedness": Groundedness(), "HallucinationScore": HallucinationScore()}
    for one in sets:
        if not one.seen:
            for name, evaluator in evaluators.items():
                one.scores[name] = [evaluator.evaluate(**inputs(row)).score for row in one.rows]
    if any(one.seen for one in sets):
        sys.path.insert(0, str(ROOT / "scripts"))
        from train_groundedness import out_of_fold

        crossed = out_of_fold(folder)
        for one in sets:
            if one.seen:
                for name in evaluators:
                    # An answer that claims nothing is in no fold, and fully supported.
                    one.scores[name] = [crossed[one.name].get(row["id"], {name: 1.0})[name] for row in one.rows]


def score_with_floors(sets: list[LabelledSet]) -> None:
    """Score by length alone, and by words alone."""
    for one in sets:
        one.scores["length only"] = [floors.length(**inputs(row)) for row in one.rows]
        one.scores["lexical"] = [floors.lexical(**inputs(row)) for row in one.rows]


def score_with_futureagi(sets: list[LabelledSet], python: Path) -> None:
    """Score with FutureAGI's local metrics, by the Python of an environment that has ai-evaluation.

    Raises:
        SystemExit: the environment lacks it, or it failed.
    """
    rows = [row for one in sets for row in one.rows]
    asked = "".join(json.dumps(inputs(row)) + "\n" for row in rows)
    arm = Path(__file__).with_name("futureagi_arm.py")
    done = subprocess.run([python, arm], input=asked, stdout=subprocess.PIPE, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(answers) != len(rows):
        raise SystemExit(f"FutureAGI's metrics did not run; in that environment: {python} -m pip install ai-evaluation")
    scored = iter(answers)
    for one in sets:
        mine = [next(scored) for _ in one.rows]
        for metric in ("groundedness", "hallucination_score"):
            one.scores[f"FutureAGI {metric}"] = [answer[metric] for answer in mine]


def inputs(row: dict[str, Any]) -> dict[str, Any]:
    """Return what an evaluator is given of a row."""
    return {"response": row["response"], "context": row["context"], "question": row.get("question")}
