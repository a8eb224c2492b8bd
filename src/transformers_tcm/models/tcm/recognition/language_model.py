"""How likely a word is as a word: a small model of characters, each from the ones before it.

References: Bengio et al., A Neural Probabilistic Language Model, JMLR 2003; for its use with CTC, Hannun et al.,
First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs, 2014.

Shapes: N words, L characters of the longest, M characters and ends of all words together, W the context, S symbols.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional

__all__ = ["CharacterLanguageModel", "LanguageModelConfig", "needs_search"]

# The symbol of the beginning and the end of a word.
END = 0


@strict
@dataclass
class LanguageModelConfig:
    """Settings of the language model of a recogniser, and of its use.

    Args:
        context: W, the characters before one that it is predicted from.
        embedding_size: numbers that stand for a character.
        hidden_size: width of the hidden layers.
        num_layers: residual hidden layers after the first.
        weight: what the logarithm of a word's probability as a word counts, where that of its looks counts 1.
        length_bonus: nats that each character adds to that logarithm, since long words are less probable.
        uniform_share: of its probabilities that all characters have alike, so that prices, codes and punctuation, which
            lists of words lack, are not read as words (linear interpolation, Jelinek and Mercer, 1980).
        beam_width: beginnings of each word that are pursued.
        margins: a word is also read with these margins around it, as shares of its height, and the readings vote.
        clear_score: words whose characters look clearer than this are as they look, whatever is a word.
    """

    context: int = 10
    embedding_size: int = 32
    hidden_size: int = 512
    num_layers: int = 1
    weight: float | int = 0.8
    length_bonus: float | int = 2.5
    uniform_share: float | int = 0.05
    beam_width: int = 16
    margins: list[float] | tuple[float, ...] = (0.08, -0.08, 0.04, -0.04)
    clear_score: float | int = 0.98

    def __post_init__(self) -> None:
        for name in ("context", "embedding_size", "hidden_size", "beam_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` of the language model must be positive, got {getattr(self, name)}")
        for name in ("num_layers", "weight", "length_bonus"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` of the language model must not be negative, got {getattr(self, name)}")
        for name in ("uniform_share", "clear_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` of the language model lies between 0 and 1, got {getattr(self, name)}")
        self.margins = list(self.margins)
        if any(margin <= -0.5 for margin in self.margins):
            raise ValueError(f"`margins` of the language model leave nothing of a word, got {list(self.margins)}")


class ResidualLayer(nn.Sequential):
    """A hidden layer around a shortcut."""

    def __init__(self, size: int):
        super().__init__(nn.LayerNorm(size), nn.GELU(), nn.Linear(size, size))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + super().forward(states)


class CharacterLanguageModel(nn.Module):
    """Probabilities of words by their spelling, without regard to case and to which digit a digit is.

    It learns from lists of words, not from pictures, so its parameters ask for no gradients until
    `requires_grad_` says so.

    Args:
        settings: its settings.
        charset: the characters of the recogniser, in the order of its classes.
    """

    def __init__(self, settings: LanguageModelConfig, charset: str):
        super().__init__()
        self.settings = settings
        folded = [fold_character(character) for character in charset]
        self.alphabet = sorted(set(folded))
        # After the end the characters, and last what stands for any outside the charset.
        self.symbols = [self.alphabet.index(character) + 1 for character in folded] + [len(self.alphabet) + 1]
        num_symbols, size = len(self.alphabet) + 2, settings.hidden_size
        self.embedding = nn.Embedding(num_symbols, settings.embedding_size)
        self.input = nn.Linear(settings.context * settings.embedding_size, size)
        self.layers = nn.ModuleList(ResidualLayer(size) for _ in range(settings.num_layers))
        self.output = nn.Sequential(nn.GELU(), nn.Linear(size, num_symbols))
        self.requires_grad_(False)

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        """Logits (M, S) of the symbols after the last W ones, contexts (M, W)."""
        states = self.input(self.embedding(contexts).flatten(1))  # (M, W, E) -> (M, W x E) -> (M, hidden)
        for layer in self.layers:
            states = layer(states)
        return self.output(states)

    @torch.no_grad()
    def adopt(self, other: "CharacterLanguageModel") -> None:
        """Take the weights of a model of other characters; those it lacks are as likely as its unknown ones.

        Raises:
            ValueError: for a model of other sizes.
        """
        unknown = len(other.alphabet) + 1
        former = {character: row for row, character in enumerate(other.alphabet, start=1)}
        rows = [END, *(former.get(character, unknown) for character in self.alphabet), unknown]
        weights = other.state_dict()
        for name in ("embedding.weight", "output.1.weight", "output.1.bias"):
            weights[name] = weights[name][rows]
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"`language_model` has other sizes than that of the checkpoint: {error}") from error

    def loss(self, classes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, in nats, of the characters and ends of words: classes (N, L), -1 after the end."""
        losses, counted = self._losses(classes)
        return losses.sum() / counted.sum()

    @torch.no_grad()
    def perplexities(self, classes: torch.Tensor) -> torch.Tensor:
        """Perplexity (N,) of each word: classes (N, L), -1 after the end; 1 is a word that could be no other."""
        losses, counted = self._losses(classes)
        return (losses.sum(dim=1) / counted.sum(dim=1)).exp()

    def _losses(self, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy (N, L + 1) of the characters and the end of words (N, L), zero beyond, and which count."""
        table = torch.tensor(self.symbols, device=classes.device)
        symbols = table[classes.clamp(min=0)].masked_fill(classes < 0, END)  # (N, L)
        contexts = functional.pad(symbols, (self.settings.context, 0), value=END).unfold(1, self.settings.context, 1)
        targets = functional.pad(symbols, (0, 1), value=END)  # (N, L + 1), beside contexts (N, L + 1, W)
        counted = functional.pad(classes >= 0, (1, 0), value=True)
        logits = self(self._placed(contexts[counted])).float().to(targets.device)
        losses = functional.cross_entropy(logits, targets[counted], reduction="none")
        return torch.zeros(counted.shape, device=losses.device).masked_scatter(counted, losses), counted

    def _placed(self, contexts: torch.Tensor) -> torch.Tensor:
        """Contexts on the device of the weights."""
        device = self.embedding.weight.device
        # Weights that are offloaded are nowhere; accelerate then takes the contexts along to where they are brought.
        return contexts if device.type == "meta" else contexts.to(device)

    @torch.no_grad()
    def next_characters(self, beginnings: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Natural logarithms (N, classes + 1) of the probabilities of what follows N beginnings of words.

        Args:
            beginnings: classes of their characters.

        Returns:
            For each a number for every class of the recogniser and, last, for the end of the word, interpolated by
            `uniform_share`. Classes that the model does not tell apart, such as the digits, all have the probability
            of one of them to come.
        """
        width = self.settings.context
        padding = [END] * width
        symbols = [[*padding, *(self.symbols[index] for index in classes[-width:])][-width:] for classes in beginnings]
        logits = self(self._placed(torch.tensor(symbols).view(-1, width))).float()
        probabilities = logits.softmax(dim=-1)[:, [*self.symbols, END]]
        # A share of 0 and a probability of 0 together would be no number.
        least = torch.finfo(probabilities.dtype).tiny
        uniform = torch.full_like(probabilities, 1 / probabilities.shape[1])
        return probabilities.lerp(uniform, self.settings.uniform_share).clamp(min=least).log().cpu().numpy()


def needs_search(
    scores: torch.Tensor, settings: LanguageModelConfig, text_threshold: float | torch.Tensor = 0.0
) -> torch.Tensor:
    """Which words (N,) spelling has a say in: those that look neither as clear as to leave no doubt, nor so unclear,
    below `text_threshold` (of all, or (N,) of each), that they are not reported; by the scores (N,) of their first
    look."""
    return (scores >= text_threshold) & (scores < settings.clear_score)


def fold_character(character: str) -> str:
    """The character that stands for this one: one for all digits, the lower case for letters."""
    if character.isdigit():
        return "0"
    lower = character.lower()
    return lower if len(lower) == 1 else character
