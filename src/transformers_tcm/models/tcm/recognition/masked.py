"""The recogniser of Mask TextSpotter v3: upright boxes of which only the word is left, read by spatial attention.

References: Liao et al., "Mask TextSpotter v3: Segmentation Proposal Network for Robust Scene Text Spotting", ECCV 2020
(hard RoI masking); "Mask TextSpotter: An End-to-End Trainable Neural Network for Spotting Text with Arbitrary Shapes",
TPAMI 2019, section 3.4 (spatial attention).

Shapes: N words, P = h x w positions, D the hidden size, C classes, W beams, L characters of the longest word.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional

from ..heads.base import check_range
from .base import Recognizer, RecognizerConfig
from .encoder import map_convs
from .reading import WordReading, attention_steps
from .sampling import MaskedBoxSampler

__all__ = ["MaskedConfig", "MaskedRecognizer", "SpatialSearch", "TCMSpatialDecoder"]

# Other classes are at least this much less probable, in nats, than those that the search has chosen.
GAP = 1e-4
# The logarithm of no probability: finite, so that losses and sums are.
NONE = -1e4


@strict
@dataclass
class MaskedConfig(RecognizerConfig):
    """Settings of the recogniser of Mask TextSpotter v3; `max_length` counts the end of a word too.

    Args:
        channels: widths of the 3x3 convolutions on the masked crop, before the map is halved once.
        margin: what is added to height and width of a word's box, as a share of them.
        beam_width: beginnings of each word that are pursued; 1 reads the most probable character at every step.
    """

    decoder: str = "masked"
    feature_stride: Literal[2, 4] = 4
    crop_size: list[int] | tuple[int, ...] = (16, 64)
    channels: list[int] | tuple[int, ...] = (256, 256, 256, 256)
    margin: float | int = 0.1
    beam_width: int = 1
    loss_weight: float | int = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"`channels` must be positive and at least one, got {list(self.channels)}")
        check_range(self, margin=(0, None), beam_width=(1, None))

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns that the decoder looks at."""
        rows, columns = self.crop_size
        return (rows + 1) // 2, (columns + 1) // 2


class SpatialSearch(NamedTuple):
    """The words that the search found.

    Args:
        classes: (N, L) at each step, the end included and in all steps after it.
        log_probabilities: (N, L, C) of every class at each step of that word.
    """

    classes: torch.Tensor
    log_probabilities: torch.Tensor


class TCMSpatialDecoder(nn.Module):
    """One character after the other: a GRU that looks at a map through additive attention over all its positions.

    The class of unknown characters also stands for the beginning of a word, and is never read.
    """

    def __init__(self, settings: MaskedConfig):
        super().__init__()
        size, (rows, columns), num_classes = settings.hidden_size, settings.map_size, settings.num_classes
        self.max_length, self.beam_width = settings.max_length, settings.beam_width
        self.begin, self.end = num_classes - 2, num_classes - 1
        context = size + columns + rows
        # The released code calls both one-hot, and starts them at random all the same.
        self.column_codes, self.row_codes = nn.Embedding(columns, columns), nn.Embedding(rows, rows)
        self.embedding = nn.Embedding(num_classes, size)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)  # lest the character before drowns what is seen
        self.query, self.key = nn.Linear(size, size, bias=False), nn.Linear(context, size)
        self.energy = nn.Linear(size, 1, bias=False)
        self.cell = nn.GRUCell(size + context, size)
        self.output = nn.Linear(size, num_classes)

    def forward(self, features: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Features (N, D, h, w) to logits (N, steps, C).

        With the right `classes` (N, L), -1 after the end, each step is told the character before it, in L + 1 steps or
        `max_length`; without, they are logarithms of the probabilities at the `max_length` steps of the best word, cut
        so that its characters have the highest.
        """
        context = self.context(features)
        if classes is None:
            return self._as_logits(self.search(context))
        targets = self.targets(classes)
        told = functional.pad(targets[:, :-1], (1, 0), value=self.begin).clamp(min=0)
        hidden, keys = context.new_zeros(context.shape[0], self.cell.hidden_size), self.key(context)
        logits = []
        for previous in told.unbind(dim=1):
            hidden, _ = self.step(hidden, previous, context, keys)
            logits.append(self.output(hidden))
        return torch.stack(logits, dim=1)

    def context(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, D, h, w) and the codes of their columns and rows, row by row (N, P, D + w + h)."""
        count, _, height, width = features.shape
        columns = self.column_codes.weight.expand(count, height, -1, -1)
        rows = self.row_codes.weight[:, None].expand(count, -1, width, -1)
        return torch.cat([features.permute(0, 2, 3, 1), columns, rows], dim=-1).flatten(1, 2)

    def step(
        self, hidden: torch.Tensor, previous: torch.Tensor, context: torch.Tensor, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next state (N, D) and the attention (N, P) from state, class before (N,), context and its keys."""
        energy = self.energy(torch.tanh(keys + self.query(hidden)[:, None]))  # (N, P, 1)
        attention = energy.float().softmax(dim=1).to(context.dtype)
        seen = (attention * context).sum(dim=1)
        embedded = self.embedding(previous).to(seen.dtype)
        return self.cell(torch.cat([embedded, seen], dim=1), hidden), attention[..., 0]

    def search(self, context: torch.Tensor) -> SpatialSearch:
        """The most probable words of contexts (N, P, ·), by beam search; ended ones stay in the race."""
        count, width, num_classes = context.shape[0], self.beam_width, self.output.out_features
        context = context.repeat_interleave(width, dim=0)  # (N W, P, ·)
        keys, first = self.key(context), torch.arange(count, device=context.device)[:, None] * width  # (N, 1)
        hidden = context.new_zeros(count * width, self.cell.hidden_size)
        previous = torch.full((count * width,), self.begin, device=context.device)
        # There is but one beginning.
        scores = torch.full((count, width), NONE, device=context.device).index_fill(1, first.new_zeros(1), 0.0)
        certain = torch.full((num_classes,), NONE, device=context.device).index_fill(0, first.new_tensor([self.end]), 0)
        classes = previous[:, None][:, :0]
        history = certain.expand(count * width, 0, -1)
        traced = torch.compiler.is_compiling()  # a graph takes all steps
        while classes.shape[1] < self.max_length and (
            traced or not classes.shape[1] or not (previous == self.end).all()
        ):
            hidden, _ = self.step(hidden, previous, context, keys)
            log_probabilities = self.output(hidden).float().log_softmax(dim=-1)
            if classes.shape[1]:
                log_probabilities = torch.where((previous == self.end)[:, None], certain, log_probabilities)
            candidates = log_probabilities.index_fill(1, first.new_tensor([self.begin]), NONE).view(count, width, -1)
            scores, best = (scores[..., None] + candidates).flatten(1).topk(width, dim=1)  # (N, W)
            beams = (first + best // num_classes).flatten()
            previous, hidden = (best % num_classes).flatten(), hidden[beams]
            classes = torch.cat([classes[beams], previous[:, None]], dim=1)
            history = torch.cat([history[beams], log_probabilities[beams, None]], dim=1)
        return SpatialSearch(classes[::width], history[::width])

    def _as_logits(self, found: SpatialSearch) -> torch.Tensor:
        chosen = found.log_probabilities.gather(2, found.classes[..., None])  # (N, L, 1)
        logits = torch.minimum(found.log_probabilities, chosen - GAP).scatter(2, found.classes[..., None], chosen)
        # Chunks of words end at different steps; what follows the end of a word is not looked at.
        missing = self.max_length - logits.shape[1]
        return functional.pad(logits, (0, 0, 0, missing))

    def targets(self, classes: torch.Tensor) -> torch.Tensor:
        """Characters and the end (N, steps), -1 after it, of classes (N, L); the end cuts words that are too long."""
        cut = classes[:, : self.max_length - 1]
        targets = functional.pad(cut, (0, 1), value=-1)
        return targets.scatter(1, (cut >= 0).sum(dim=1, keepdim=True), self.end)

    def loss(self, char_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Cross-entropy summed over the characters and the end of a word, mean over the words.

        Logits (N, steps, C) and classes (N, L), -1 after the end.
        """
        targets = self.targets(classes)
        total = functional.cross_entropy(
            char_logits.float().flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
        )
        return total / len(classes)


class MaskedRecognizer(Recognizer):
    """Reads upright boxes in which nothing but the word is left."""

    config_class = MaskedConfig
    display_name = "masked spatial-attention"
    straightens = False
    class_tensors = ("embedding.weight", "output.weight", "output.bias")

    def make_sampler(self, settings: MaskedConfig, num_levels: int) -> nn.Module:
        return MaskedBoxSampler(settings.crop_size, settings.feature_stride, num_levels, float(settings.margin))

    def make_encoder(self, settings: MaskedConfig, in_channels: int) -> nn.Module:
        halve = nn.MaxPool2d(2, ceil_mode=True)
        last = map_convs(settings.channels[-1], [settings.hidden_size], norm=False)
        return nn.Sequential(map_convs(in_channels, settings.channels, norm=False), last, halve)

    def make_decoder(self, settings: MaskedConfig) -> nn.Module:
        return TCMSpatialDecoder(settings)

    @property
    def num_steps(self) -> int:
        return self.settings.max_length

    def decode(
        self, char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float | torch.Tensor = 0.0
    ) -> list[WordReading]:
        """See `Recognizer.decode`, logits (N, V, T, C); a score is the mean probability of characters and end."""
        charset, readings = self.settings.charset, []
        for word in char_logits[:, 0].detach().float().exp().cpu().numpy():  # (N, T, C), logarithms of probabilities
            length = len(attention_steps(word))
            text = "".join(charset[index] for index in word[:length].argmax(axis=1))
            score = float(word[: length + 1].max(axis=1).mean()) if length else 0.0
            readings.append(WordReading(text, score, word[:length, : len(charset)]))
        return readings
