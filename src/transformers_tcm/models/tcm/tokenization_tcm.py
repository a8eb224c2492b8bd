"""CLIP's tokenizer from package data, so that other prompts need no download."""

import gzip
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["clip_tokenizer"]

_MERGES_IN_USE = 49152 - 256 - 2


@lru_cache(maxsize=1)
def clip_tokenizer() -> "CLIPTokenizer":
    """CLIP's own byte-pair tokenizer (Radford et al., 2021), built from the vocabulary that ships with the package."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    packed = resources.files("transformers_tcm").joinpath("models/tcm/assets/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    # The first line is a header; lines beyond the merges in use belong to a larger vocabulary.
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES_IN_USE + 1]
    merges = [tuple(line.split()) for line in lines]
    characters = list(bytes_to_unicode().values())
    tokens = characters + [character + "</w>" for character in characters] + ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # Annotated as `list[str]`, but handed on to a BPE that takes pairs.
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]
