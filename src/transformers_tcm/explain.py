"""What a model has learned to ask for: the vocabulary next to the learned context of its prompt.

References: Zhou et al., "Learning to Prompt for Vision-Language Models" (CoOp), IJCV 2022, whose reading of context
vectors by their nearest words this follows; TCM, Yu et al., CVPR 2023, which puts such vectors before its prompt.

The language prompt of TCM and FastTCM is added to every token alike, so it changes no distance between a context vector
and a token. Nearest words are a hint and no explanation: a vector need not be near to any word. In a model trained from
scratch only the tokens of the prompt were ever trained, the others are where chance put them.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch.nn import functional
from transformers import AutoConfig

from .models.tcm.configuration_tcm import TCMConfig
from .models.tcm.modeling_tcm import TCMModel, TCMPreTrainedModel, TCMTextEncoder
from .models.tcm.tokenization_tcm import clip_tokenizer

__all__ = ["ContextVector", "Distance", "nearest_tokens"]

Distance = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class ContextVector:
    """The vocabulary as a learned context vector sees it.

    Args:
        tokens: the nearest tokens, the nearest one first; one that ends no word ends in "-".
        distances: Euclidean distances, or 1 - cosine, of these.
        median: distance of the median token of the vocabulary, to compare with.
    """

    tokens: list[str]
    distances: list[float]
    median: float


@torch.inference_mode()
def nearest_tokens(
    model: TCMPreTrainedModel | str | os.PathLike[str], count: int = 5, distance: Distance = "euclidean"
) -> list[ContextVector]:
    """The tokens of CLIP's vocabulary that are nearest to each learned context vector, in the text tower's input.

    Args:
        model: a TCM model with its text tower, or its folder or Hub name.
        count: tokens for each vector.
        distance: `"euclidean"`, as in CoOp, or `"cosine"`, which ignores the length of the vectors.

    Raises:
        OSError: if there is no such folder or name.
        ValueError: for what is no TCM model, a fused one, which has no text tower any more, one without context,
            another vocabulary than CLIP's, or a `count` that it has not.
    """
    encoder = _text_encoder(model)
    vocabulary = encoder.text_model.embeddings.token_embedding.weight.float()  # (V, D)
    context = encoder.context[0].float()  # (N, D)
    names = _token_names()
    if not len(context):
        raise ValueError("this model has no learned context: `num_context_tokens` is 0")
    if len(vocabulary) != len(names):
        raise ValueError(f"the model has {len(vocabulary)} tokens; expected the {len(names)} of CLIP's vocabulary")
    if not 1 <= count <= len(names):
        raise ValueError(f"`count` is {count}; expected 1 to {len(names)}")
    if distance == "cosine":
        distances = 1 - functional.normalize(context, dim=1) @ functional.normalize(vocabulary, dim=1).T  # (N, V)
    else:
        distances = torch.cdist(context, vocabulary)
    nearest = distances.topk(count, largest=False)
    return [
        ContextVector([names[index] for index in indices], values, median)
        for indices, values, median in zip(
            nearest.indices.tolist(), nearest.values.tolist(), distances.median(dim=1).values.tolist(), strict=True
        )
    ]


def _text_encoder(model: TCMPreTrainedModel | str | os.PathLike[str]) -> TCMTextEncoder:
    config = AutoConfig.from_pretrained(model) if isinstance(model, (str, os.PathLike)) else model.config
    if not isinstance(config, TCMConfig):
        raise ValueError(f"{config.model_type!r} is no TCM model; expected a detector or spotter of this package")
    if config.fused:
        raise ValueError(
            "this model is fused: its text tower and the learned context were folded into one stored embedding; use "
            "the checkpoint from before `fuse_text_embeddings()`"
        )
    loaded = model if isinstance(model, TCMPreTrainedModel) else TCMModel.from_pretrained(model, dtype=torch.float32)
    prompted = loaded if isinstance(loaded, TCMModel) else loaded.model
    assert prompted.text_encoder is not None  # only fused models have none
    return prompted.text_encoder


@lru_cache(maxsize=1)
def _token_names() -> list[str]:
    """The tokens of CLIP's vocabulary as text."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    bytes_of = {character: byte for byte, character in bytes_to_unicode().items()}
    tokenizer = clip_tokenizer()
    special = set(tokenizer.all_special_tokens)

    def name(token: str) -> str:
        if token in special:
            return token
        word = token.removesuffix("</w>")
        text = bytes(bytes_of[character] for character in word).decode("utf-8", errors="replace")
        return f"{text}-" if word == token else text

    return [name(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
