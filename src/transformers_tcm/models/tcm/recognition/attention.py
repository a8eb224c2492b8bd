"""The attention recogniser: one character after the other.

Reference: ABCNet v2, Liu et al., TPAMI 2021.

Shapes: N words, T steps of the encoder, D the hidden size, L characters of the longest word.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .encoder import SequenceConfig, SequenceRecognizer
from .reading import WordReading, attention_steps, read_words

__all__ = ["AttentionRecognizer"]


class TCMAttentionDecoder(nn.Module):
    """One character after the other: a GRU that looks at the states through additive attention (ABCNet v2)."""

    def __init__(self, settings: SequenceConfig):
        super().__init__()
        size = settings.hidden_size
        self.max_length = settings.max_length
        self.end = settings.num_classes - 1
        self.embedding = nn.Embedding(settings.num_classes, size)
        self.query, self.key, self.energy = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, 1)
        self.cell = nn.GRUCell(2 * size, size)
        self.output = nn.Linear(size, settings.num_classes)

    def forward(self, states: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """States (N, T, D) to logits (N, steps, classes).

        With the right `classes` (N, L), -1 after the end, each step is told the character before it, in L + 1 steps;
        without, what it has read itself, until all words have ended.
        """
        keys = self.key(states)
        hidden = states.mean(dim=1)
        # The end also stands for the beginning.
        previous = torch.full(states.shape[:1], self.end, device=states.device)
        steps = self.max_length if classes is None else classes.shape[1] + 1
        ended = torch.zeros_like(previous, dtype=torch.bool)
        logits: list[torch.Tensor] = []
        for step in range(steps):
            weights = self.energy(torch.tanh(keys + self.query(hidden)[:, None])).softmax(dim=1)  # (N, T, 1)
            context = (weights * states).sum(dim=1)
            hidden = self.cell(torch.cat([self.embedding(previous).to(context.dtype), context], dim=1), hidden)
            logits.append(self.output(hidden))
            if classes is None:
                previous = logits[-1].argmax(dim=1)
                ended |= previous == self.end
                if not torch.compiler.is_compiling() and ended.all():
                    break
            elif step < classes.shape[1]:
                previous = classes[:, step].masked_fill(classes[:, step] < 0, self.end)
        # Chunks of words end at different steps; what follows the end of a word is not looked at.
        return functional.pad(torch.stack(logits, dim=1), (0, 0, 0, steps - len(logits)))

    def loss(self, char_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the characters and the end of each word."""
        targets = functional.pad(classes, (0, 1), value=-1)  # (N, L + 1)
        targets.scatter_(1, (classes >= 0).sum(dim=1, keepdim=True), self.end)
        return functional.cross_entropy(char_logits.float().flatten(0, 1), targets.flatten(), ignore_index=-1)


class AttentionRecognizer(SequenceRecognizer):
    """Each step is a character until the end."""

    display_name = "attention"
    class_tensors = ("embedding.weight", "output.weight", "output.bias")

    def make_decoder(self, settings: Any) -> nn.Module:
        return TCMAttentionDecoder(settings)

    @property
    def num_steps(self) -> int:
        return self.settings.max_length

    def decode(
        self, char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float | torch.Tensor = 0.0
    ) -> list[WordReading]:
        return read_words(char_logits, self.settings.charset, attention_steps)
