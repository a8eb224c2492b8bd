"""The ABINet++ recogniser: vision reads all places of a word at once, a cloze language model corrects the reading.

References: Fang et al., "Read Like Humans: Autonomous, Bidirectional and Iterative Language Modeling for Scene Text
Recognition" (ABINet), CVPR 2021; "ABINet++: Autonomous, Bidirectional and Iterative Language Modeling for Scene Text
Spotting", TPAMI 2023.

Shapes: N words, T places (`max_length`), D the hidden size, E the width of the language model, C classes, R readings.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional

from ..attention_tcm import AttentionInterface, additive_mask
from ..heads.base import check_range
from ..heads.deformable import sine_features
from .encoder import SequenceConfig, SequenceRecognizer, map_convs
from .reading import WordReading, attention_steps, read_words

__all__ = [
    "ABINetConfig",
    "ABINetRecognizer",
    "TCMAttentionKeys",
    "TCMClozeLanguageModel",
    "TCMGatedFusion",
    "TCMIterativeDecoder",
    "TCMMapTransformer",
    "TCMVisionAttention",
    "cross_entropy_to_the_end",
    "padded_classes",
    "word_lengths",
]

# A place of a word sees the others, so there must be another one.
MIN_LENGTH = 2


@strict
@dataclass
class ABINetConfig(SequenceConfig):
    """Settings of the ABINet++ recogniser; `max_length` is T, the places that are read.

    Args:
        encoder: what the decoder looks at: the `"sequence"` along the word that the other recognisers read, or a
            `"map"` that keeps rows and columns, made by plain convolutions of these `channels` (ABINet++: 8 x 32 cells,
            four of width 256). A map has no transformer along the word, so `num_blocks`, `num_layers` and `num_heads`
            do not matter to it.
        attention_channels: width of the keys' convolutions.
        attention_layers: transformer layers between their way down and their way up.
        attention_heads: attention heads of these layers.
        attention_mlp_size: width of their MLPs.
        attention_iterations: how often the content of a place asks for it again; 0 for the position attention of
            ABINet, which asks by place alone.
        language_hidden_size: E.
        language_layers: layers of the language model.
        language_heads: their attention heads.
        language_mlp_size: width of their MLPs.
        language_dropout: dropout of the language model.
        iterations: how often a reading is corrected.
        query_weight: weight of the cross-entropy of what is read without attention.
        vision_weight: weight of the sum over the attention's iterations.
        language_weight: weight of the language model's mean over the corrections.
        fusion_weight: weight of the corrected readings' mean.
    """

    decoder: str = "abinet"
    encoder: Literal["sequence", "map"] = "sequence"
    attention_channels: int = 64
    attention_layers: int = 1
    attention_heads: int = 8
    attention_mlp_size: int = 256
    attention_iterations: int = 3
    language_hidden_size: int = 256
    language_layers: int = 4
    language_heads: int = 8
    language_mlp_size: int = 1024
    language_dropout: float | int = 0.1
    iterations: int = 3
    query_weight: float | int = 1.0
    vision_weight: float | int = 1.0
    language_weight: float | int = 1.0
    fusion_weight: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = dict.fromkeys((name for name in vars(self) if name.endswith("_weight")), (0, None))
        counts = ("language_layers", "language_heads", "language_mlp_size", "iterations", "attention_channels")
        check_range(self, **weights, **dict.fromkeys((*counts, "attention_heads", "attention_mlp_size"), (1, None)))
        check_range(self, max_length=(MIN_LENGTH, None), attention_iterations=(0, None), attention_layers=(0, None))
        for width, heads in (("language_hidden_size", "language_heads"), ("attention_channels", "attention_heads")):
            if getattr(self, width) < 1 or getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"`{width}` must be a positive multiple of `{heads}`, got {getattr(self, width)} and "
                    f"{getattr(self, heads)}"
                )
        if self.hidden_size % 2 or self.language_hidden_size % 2 or self.attention_channels % 2:
            raise ValueError("`hidden_size`, `language_hidden_size` and `attention_channels` must be even")
        if not 0 <= self.language_dropout < 1:
            raise ValueError(f"expected 0 <= `language_dropout` < 1, got {self.language_dropout}")
        if self.encoder == "map" and self.channels[-1] != self.hidden_size:
            raise ValueError(
                f"with a map as `encoder` the last of `channels` is the `hidden_size`, got {list(self.channels)} and "
                f"{self.hidden_size}"
            )
        if self.encoder == "map" and self.word_boundaries:
            raise ValueError("`word_boundaries` go with the encoder 'sequence'; a map has no steps along the word")


class TCMWordAttention(AttentionInterface, nn.Module):
    """Multi-head attention of queries (N, T, E) to a memory (N, S, E)."""

    def __init__(self, size: int, num_heads: int):
        super().__init__()
        self.head_dim, self.dropout = size // num_heads, 0.0
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.output = nn.Linear(size, size)

    def forward(self, queries: torch.Tensor, memory: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """`visible` (N, 1, T, S) says which places of the memory each query may look at, all of them without it."""
        mask = None if visible is None else additive_mask(visible, queries.dtype)
        attended, _ = self.attend(self.query(queries), self.key(memory), self.value(memory), mask)
        return self.output(attended)


class TCMPostNormLayer(nn.Module):
    """A transformer layer whose norms follow the shortcuts: attention, then an MLP."""

    def __init__(self, size: int, num_heads: int, mlp_size: int, dropout: float):
        super().__init__()
        self.attention, self.attention_norm = TCMWordAttention(size, num_heads), nn.LayerNorm(size)
        self.expand, self.reduce, self.mlp_norm = (
            nn.Linear(size, mlp_size),
            nn.Linear(mlp_size, size),
            nn.LayerNorm(size),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, memory: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """States (N, T, E) that look at a memory (N, S, E), which may be they themselves."""
        states = self.attention_norm(states + self.dropout(self.attention(states, memory, visible)))
        hidden = self.dropout(functional.relu(self.expand(states)))
        return self.mlp_norm(states + self.dropout(self.reduce(hidden)))


class TCMMapTransformer(nn.Module):
    """Transformer layers over the positions of a map, row by row (N, C, h, w)."""

    def __init__(self, size: int, num_layers: int, num_heads: int, mlp_size: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(TCMPostNormLayer(size, num_heads, mlp_size, dropout) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if not len(self.layers):
            return features
        states = features.flatten(2).transpose(1, 2)  # (N, C, h, w) -> (N, h w, C)
        states = self.dropout(states + place_codes(states.shape[1], states))
        for layer in self.layers:
            states = layer(states, states)
        return states.transpose(1, 2).unflatten(2, features.shape[2:])


class TCMAttentionKeys(nn.Module):
    """Keys (N, D, h, w) of every cell of a map (N, D, h, w): convolutions down to coarse maps and up again.

    ABINet halves the columns first and then both four times in all; ABINet++ both, three times.
    """

    def __init__(self, settings: ABINetConfig, dropout: float):
        super().__init__()
        size, channels = settings.hidden_size, settings.attention_channels
        by_place = settings.attention_iterations == 0
        strides = [(1, 2), (2, 2), (2, 2), (2, 2)] if by_place else [(2, 2), (2, 2), (2, 2), (1, 1)]
        widths = [size, channels, channels, channels]
        self.down = nn.ModuleList(
            _conv_norm(width, channels, stride) for width, stride in zip(widths, strides, strict=True)
        )
        heads, mlp_size = settings.attention_heads, settings.attention_mlp_size
        self.transformer = TCMMapTransformer(channels, settings.attention_layers, heads, mlp_size, dropout)
        self.up = nn.ModuleList(_conv_norm(channels, channels, 1) for _ in range(len(strides) - 1))
        self.output = _conv_norm(channels, size, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        levels, coarse = [], features
        for layer in self.down:
            coarse = layer(coarse)
            levels.append(coarse)
        coarse = self.transformer(coarse)
        for layer, finer in zip(self.up, reversed(levels[:-1]), strict=True):
            coarse = layer(functional.interpolate(coarse, size=finer.shape[2:])) + finer
        return self.output(functional.interpolate(coarse, size=features.shape[2:]))


def _conv_norm(in_channels: int, channels: int, stride: int | tuple[int, int]) -> nn.Sequential:
    """Released checkpoints hold biases of convolutions that a norm follows."""
    convolution = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class TCMVisionAttention(nn.Module):
    """What is seen at each of T places of a word: ABINet++ asks by content and place, ABINet by place (3.2 in both)."""

    def __init__(self, settings: ABINetConfig):
        super().__init__()
        size, self.num_places, self.iterations = (
            settings.hidden_size,
            settings.max_length,
            settings.attention_iterations,
        )
        self.keys = TCMAttentionKeys(settings, float(settings.dropout))
        self.query = nn.Linear(size, size if self.iterations == 0 else self.num_places * size)

    def forward(self, features: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Features (N, D, h, w) to what is seen (N, T, D), first without attention (ABINet++) and then in every
        iteration, and the last attention (N, T, h, w)."""
        values = features.flatten(2).transpose(1, 2)  # (N, D, h, w) -> (N, h w, D)
        keys = self.keys(features).flatten(2)  # (N, D, h w)
        codes = place_codes(self.num_places, values)  # (T, D)
        scale = values.shape[2] ** -0.5
        seen = []
        if self.iterations:
            queries = self.query(values.mean(dim=1)).unflatten(1, (self.num_places, -1))  # (N, T D) -> (N, T, D)
            seen.append(queries)
        else:
            codes = self.query(codes)
            queries = torch.zeros_like(codes).expand(features.shape[0], -1, -1)
        for _ in range(max(self.iterations, 1)):
            attention = (((queries + codes) @ keys).float() * scale).softmax(dim=-1).to(values.dtype)  # (N, T, h w)
            queries = attention @ values
            seen.append(queries)
        return seen, attention.unflatten(2, features.shape[2:])


class TCMClozeLanguageModel(nn.Module):
    """Each character from all the others of a word (ABINet, section 3.2: bidirectional cloze network).

    Keys and values are the embedded characters in every layer, never what a layer made of them: so no place learns what
    stands in it.
    """

    def __init__(self, settings: ABINetConfig):
        super().__init__()
        size, self.num_classes, self.num_places = (
            settings.language_hidden_size,
            settings.num_classes,
            settings.max_length,
        )
        self.embedding = nn.Embedding(self.num_classes, size)
        dropout = float(settings.language_dropout)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TCMPostNormLayer(size, settings.language_heads, settings.language_mlp_size, dropout)
            for _ in range(settings.language_layers)
        )
        self.classifier = nn.Linear(size, self.num_classes)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distributions (N, T, C) over the classes of each place, and lengths (N,) with the end, to features (N, T, E)
        and logits (N, T, C)."""
        embedded = tokens @ self.embedding.weight
        codes = place_codes(embedded.shape[1], embedded)
        memory = self.dropout(embedded + codes)
        places = torch.arange(len(codes), device=tokens.device)
        known = places < lengths.clamp(min=MIN_LENGTH)[:, None]  # (N, T)
        visible = (places[:, None] != places) & known[:, None, None]  # (N, 1, T, T): no place sees itself
        states = codes.expand_as(memory)
        for layer in self.layers:
            states = layer(states, memory, visible)
        return states, self.classifier(states)

    def loss(self, classes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, in nats, of the characters and ends of words without pictures: classes (N, L), -1 after
        the end, of which the first T count."""
        targets = padded_classes(classes, self.num_places, self.num_classes - 1)
        lengths = ((classes >= 0).sum(dim=1) + 1).clamp(max=self.num_places)
        tokens = functional.one_hot(targets, self.num_classes).to(self.embedding.weight.dtype)
        _, logits = self(tokens, lengths)
        return cross_entropy_to_the_end(logits, targets, lengths)


class TCMGatedFusion(nn.Module):
    """A gate takes each feature from what is seen or from what is spelled (ABINet, section 3.3)."""

    def __init__(self, settings: ABINetConfig):
        super().__init__()
        size = settings.language_hidden_size
        self.projection = None if settings.hidden_size == size else nn.Linear(settings.hidden_size, size)
        self.gate = nn.Linear(2 * size, size)
        self.classifier = nn.Linear(size, settings.num_classes)

    def forward(self, language: torch.Tensor, vision: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, T, E) of the language model and (N, T, D) of vision to fused ones (N, T, E) and logits."""
        if self.projection is not None:
            vision = self.projection(vision)
        gate = self.gate(torch.cat([language, vision], dim=-1)).sigmoid()
        fused = gate * vision + (1 - gate) * language
        return fused, self.classifier(fused)


class TCMIterativeDecoder(nn.Module):
    """Reads all places of a word by what is seen, then corrects them by spelling and looks, again and again."""

    def __init__(self, settings: ABINetConfig):
        super().__init__()
        self.settings = settings
        self.attention = TCMVisionAttention(settings)
        self.classifier = nn.Linear(settings.hidden_size, settings.num_classes)
        self.language = TCMClozeLanguageModel(settings)
        self.fusion = TCMGatedFusion(settings)

    def forward(self, states: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """States (N, S, D), or a map (N, D, h, w), to the corrected logits (N, T, C).

        With `classes` (N, L), which make no difference otherwise, all R readings (N, R, T, C): without attention, after
        each iteration of the attention, then those of the language model and corrected ones in turn.
        """
        features = states if states.ndim == 4 else states.transpose(1, 2)[:, :, None]  # (N, S, D) -> (N, D, 1, S)
        seen, _ = self.attention(features)
        readings = [self.classifier(features) for features in seen]
        for _ in range(self.settings.iterations):
            # Vision must not learn to please the language model.
            tokens = readings[-1].detach().float().softmax(dim=-1).to(seen[-1].dtype)
            spelled, language_logits = self.language(tokens, word_lengths(tokens))
            readings += [language_logits, self.fusion(spelled, seen[-1])[1]]
        return readings[-1] if classes is None else torch.stack(readings, dim=1)

    def loss(self, char_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over all places, the end in all that follow a word: the sum over the readings of vision, the
        means over those of the language model and the corrected ones. Logits (N, R, T, C)."""
        settings = self.settings
        targets = padded_classes(classes, settings.max_length, settings.num_classes - 1)
        targets = targets[:, None].expand(-1, char_logits.shape[1], -1)  # (N, R, T)
        losses = functional.cross_entropy(char_logits.float().permute(0, 3, 1, 2), targets, reduction="none")
        by_reading = losses.mean(dim=(0, 2))  # (R,)
        first = 1 if settings.attention_iterations else 0
        corrected = len(by_reading) - 2 * settings.iterations
        return (
            settings.query_weight * by_reading[:first].sum()
            + settings.vision_weight * by_reading[first:corrected].sum()
            + settings.language_weight * by_reading[corrected::2].mean()
            + settings.fusion_weight * by_reading[corrected + 1 :: 2].mean()
        )


class ABINetRecognizer(SequenceRecognizer):
    """Each place of a word is a character until the end; a language model and vision agree on them."""

    config_class = ABINetConfig
    display_name = "ABINet++"
    class_tensors = (
        "classifier.weight",
        "classifier.bias",
        "language.embedding.weight",
        "language.classifier.weight",
        "language.classifier.bias",
        "fusion.classifier.weight",
        "fusion.classifier.bias",
    )

    def make_encoder(self, settings: ABINetConfig, in_channels: int) -> nn.Module:
        if settings.encoder == "sequence":
            return super().make_encoder(settings, in_channels)
        return map_convs(in_channels, settings.channels, norm=True)

    def make_decoder(self, settings: ABINetConfig) -> nn.Module:
        return TCMIterativeDecoder(settings)

    @property
    def spelling(self) -> nn.Module:
        return self.decoder.get_submodule("language")

    @property
    def num_steps(self) -> int:
        return self.settings.max_length

    def decode(
        self, char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float | torch.Tensor = 0.0
    ) -> list[WordReading]:
        return read_words(char_logits, self.settings.charset, attention_steps)


def place_codes(count: int, like: torch.Tensor) -> torch.Tensor:
    """Sines and cosines (count, width) that tell places apart, of the width, type and device of a tensor (…, width)."""
    return sine_features(torch.arange(count, device=like.device), like.shape[-1]).to(like.dtype)


def word_lengths(tokens: torch.Tensor) -> torch.Tensor:
    """Places (N,) up to the first end, it included, in distributions (N, T, C); all T where none is most probable."""
    ended = tokens.argmax(dim=-1) == tokens.shape[2] - 1  # (N, T)
    first = ended.int().argmax(dim=1) + 1
    return torch.where(ended.any(dim=1), first, tokens.shape[1])


def padded_classes(classes: torch.Tensor, num_places: int, end: int) -> torch.Tensor:
    """Classes (N, T) with the end in all places after a word, from classes (N, L), -1 after the end."""
    cut = functional.pad(classes, (0, max(num_places - classes.shape[1], 0)), value=-1)[:, :num_places]
    return cut.masked_fill(cut < 0, end)


def cross_entropy_to_the_end(logits: torch.Tensor, targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean over the first `lengths` (N,) places of all words, as in ABINet; logits (N, T, C), targets (N, T)."""
    counted = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None]
    return functional.cross_entropy(logits[counted].float(), targets[counted])
