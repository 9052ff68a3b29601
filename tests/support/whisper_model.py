"""A Whisper model that hears nothing: all that vLLM reads of one but its weights, which `--load-format dummy` draws."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path

WAVE_HZ = 16_000
# Those that vLLM puts into a prompt, and some that the feature extractor's side of transformers asks for.
_SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>", "<|notimestamps|>")


def make(folder: Path) -> str:
    """Write configuration, tokenizer and feature extractor into a folder, and return its path."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    ids = {token: tokenizer.token_to_id(token) for token in _SPECIAL}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_SPECIAL[0], bos_token=_SPECIAL[0], pad_token=_SPECIAL[0]
    ).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "WhisperTokenizerFast"}))
    WhisperFeatureExtractor().save_pretrained(folder)
    WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=tokenizer.get_vocab_size(),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        dtype="bfloat16",
    ).save_pretrained(folder)
    return str(folder)


def silence(seconds: float = 1.0) -> bytes:
    """Return a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(WAVE_HZ)
        sound.writeframes(b"\0\0" * int(seconds * WAVE_HZ))
    return file.getvalue()
