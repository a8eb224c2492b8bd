"""What every recogniser provides: words at given places of a feature map become logits, logits become words.

References: ABCNet, Liu et al., CVPR 2020 (BezierAlign); the decoders are in files of their own.

Shapes: N words, V views of each, T steps, L characters of the longest word.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn

from ..heads.base import Regions, check_range
from .language_model import CharacterLanguageModel, LanguageModelConfig, fold_character, needs_search
from .proposals import LabelledWords
from .reading import PRINTABLE_ASCII, WordReading, char_classes
from .sampling import FeatureLevels, WordSampler, quads_to_bezier, with_margin, word_heights

__all__ = ["Recognizer", "RecognizerConfig", "changed_settings"]

# From states (N, T, D), and the right classes (N, L) where they are taught, to something for each word.
Layer = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


@strict  # checks what is assigned, and so has no effect on a frozen class
@dataclass
class RecognizerConfig:
    """Settings that every recogniser has; each adds its own.

    Args:
        charset: the characters that are read; all others are one class, unknown.
        decoder: which recogniser, a name of `recognition.RECOGNIZERS`: `"ctc"` (ABCNet), `"attention"` (ABCNet v2),
            `"abinet"` (ABINet++), `"masked"` (Mask TextSpotter v3).
        feature_stride: words are cut out of the stem's map at stride 2, or of C2 at stride 4.
        crop_size: rows and columns of the crop of a word.
        hidden_size: D, width of what the encoder makes of a crop.
        max_length: most characters of a word, where the recogniser does not count steps of the crop.
        chunk_size: words read at a time in evaluation mode, which bounds the memory.
        jitter: in training, corners are moved by up to this share of the word's height, since proposals are not exact.
        train_on_proposals: also learn from the detector's own proposals: those that overlap a word by half say what it
            says, those that touch no word say nothing.
        loss_weight: weight of the recognition loss.
        language_model: settings of a language model that weighs how the words a CTC recogniser thinks likely are
            spelled, see `LanguageModelConfig`; `None` for none.
        split_at_spaces: what a CTC recogniser reads with a space becomes words of their own. For recognisers that were
            taught single words and pairs of them, not lines.
    """

    charset: str = PRINTABLE_ASCII
    decoder: str = "ctc"
    feature_stride: Literal[2, 4] = 2
    crop_size: list[int] | tuple[int, ...] = (16, 96)
    hidden_size: int = 256
    max_length: int = 32
    chunk_size: int = 256
    jitter: float | int = 0.1
    train_on_proposals: bool = False
    loss_weight: float | int = 1.0
    language_model: dict[str, Any] | None = None
    split_at_spaces: bool = False

    def __post_init__(self) -> None:
        if self.split_at_spaces and self.decoder != "ctc":
            raise ValueError(
                f"`split_at_spaces` goes with the decoder 'ctc'; {self.decoder!r} does not say where they are"
            )
        if self.language_model is not None:
            if self.decoder != "ctc":
                raise ValueError(f"`language_model` goes with the decoder 'ctc'; {self.decoder!r} learns one itself")
            self.language_model = asdict(LanguageModelConfig(**self.language_model))
        if not self.charset or len(set(self.charset)) != len(self.charset) or "\0" in self.charset:
            raise ValueError(f"`charset` must hold every character once, at least one and no NUL; got {self.charset!r}")
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise ValueError(f"`crop_size` must be rows and columns, both positive; got {list(self.crop_size)}")
        counts = dict.fromkeys(("hidden_size", "max_length", "chunk_size"), (1, None))
        check_range(self, **counts, jitter=(0, None), loss_weight=(0, None))

    @property
    def num_classes(self) -> int:
        """The charset, unknown, and blank (CTC) or end (all others)."""
        return len(self.charset) + 2


def changed_settings(stored: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings of a recogniser with some changed, without a language model or splitting that does not fit.

    Args:
        stored: as in `TCMConfig.recognizer`.
        changes: what to change.
    """
    from . import recognizer_class  # whose recognisers have the settings above

    former, decoder = stored.get("decoder", "ctc"), changes.get("decoder", stored.get("decoder", "ctc"))
    config_class: Any = recognizer_class(decoder).config_class
    if not issubclass(config_class, recognizer_class(former).config_class):
        # Of one of another kind nothing but the characters means the same.
        stored = {name: value for name, value in stored.items() if name == "charset"}
    if decoder != former:
        stored = {name: value for name, value in stored.items() if name != "split_at_spaces"}
    settings = {**stored, **changes}
    known = {fold_character(character) for character in stored.get("charset", PRINTABLE_ASCII)}
    asked = {fold_character(character) for character in settings.get("charset", PRINTABLE_ASCII)}
    if (asked <= known and decoder == former) or "language_model" in changes:
        return settings
    spells = "language_model" in config_class.__dataclass_fields__
    return {**settings, "language_model": None} if spells else settings


class Recognizer(nn.Module, ABC):
    """Reads words at given places of a feature map: samples them, encodes the crops, and decodes the states.

    Class attributes:
        config_class: dataclass of its settings, `TCMConfig.recognizer`.
        display_name: how cards and tables call it.
        straightens: whether crops follow the word, so that it matters where a word begins.
        class_tensors: names of the decoder's weights that have a row for each class.

    Args:
        settings: its settings.
        in_channels: channels of the map.
    """

    config_class: ClassVar[type]
    display_name: ClassVar[str]
    straightens: ClassVar[bool] = True
    class_tensors: ClassVar[tuple[str, ...]]

    def __init__(self, settings: Any, in_channels: int):
        super().__init__()
        self.settings = settings
        # The coarsest level has stride 16.
        self.sampler = self.make_sampler(settings, 4 if settings.feature_stride == 2 else 3)
        self.encoder = self.make_encoder(settings, in_channels)
        self.decoder = self.make_decoder(settings)
        self.boundaries = self.make_boundaries(settings)
        self.language_model = None
        if settings.language_model is not None:
            language = LanguageModelConfig(**settings.language_model)
            self.language_model = CharacterLanguageModel(language, settings.charset)

    @torch.no_grad()
    def adopt(self, other: "Recognizer") -> str:
        """Take the weights of a recogniser of other characters, those of classes for the characters in both.

        Returns:
            The characters that the other lacks, whose weights are left as they are.
        """
        # Unknown and last, which both have, are -2 and -1 from the end.
        former = {character: row for row, character in enumerate(other.settings.charset)}
        shared = [(row, former[c]) for row, c in enumerate(self.settings.charset) if c in former] + [(-2, -2), (-1, -1)]
        own_rows, other_rows = (list(rows) for rows in zip(*shared, strict=True))
        weights, class_tensors = other.state_dict(), {f"decoder.{name}" for name in self.class_tensors}
        for name, tensor in self.state_dict().items():
            if name in class_tensors:
                tensor[own_rows] = weights[name][other_rows]
            elif not name.startswith("language_model."):
                tensor.copy_(weights[name])
        if self.language_model is not None and other.language_model is not None:
            self.language_model.adopt(other.language_model)
        return "".join(character for character in self.settings.charset if character not in former)

    def make_sampler(self, settings: Any, num_levels: int) -> nn.Module:
        """From features, control points and images, as `forward` takes them, to crops (N, C, h, w)."""
        return WordSampler(settings.crop_size, settings.feature_stride, num_levels)

    @abstractmethod
    def make_encoder(self, settings: Any, in_channels: int) -> nn.Module:
        """From crops (N, C, h, w) to what the decoder looks at, states (N, T, D) or maps (N, D, h', w')."""

    @abstractmethod
    def make_decoder(self, settings: Any) -> nn.Module:
        """From what the encoder made, and the right classes where it is taught, to logits (N, T', classes); with a
        `loss` of logits and classes (N, L), -1 after the end."""

    def make_boundaries(self, settings: Any) -> nn.Module | None:
        """From states (N, T, D) along crops to logits (N, T, 1) of lying in a word; `None` where nothing asks that."""
        return None

    @property
    def spelling(self) -> nn.Module | None:
        """The part that learns from words without pictures, by its `loss` of classes (N, L), -1 after the end."""
        return self.language_model

    def classify(self, states: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
        """Logits (N, T', classes) of states (N, T, D), by the decoder."""
        logits: torch.Tensor = self.decoder(states, classes)
        return logits

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """T of the logits in evaluation mode."""

    @abstractmethod
    def decode(
        self, char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float | torch.Tensor = 0.0
    ) -> list[WordReading]:
        """The most probable word of each of N.

        Args:
            char_logits: (N, V, T, classes), the first view the word as it was found.
            use_language_model: `False` reads character by character, whatever is a word.
            text_threshold: words whose characters look less clear than this score, of all or (N,) of each, are not
                searched for further.
        """

    def find_spaces(self, char_logits: torch.Tensor) -> list[list[tuple[float, float]]]:
        """Where words (N, V, T, classes) that look like several are to be told apart: for each space the shares of the
        length at which the text before it ends and that after it begins. None where that is not asked for
        (`split_at_spaces`)."""
        return [[] for _ in char_logits]

    def find_words(
        self, features: torch.Tensor | FeatureLevels, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> list[list[tuple[float, float]]]:
        """The words along N regions: where each begins and ends in shares of the region's length, below 0 and above 1
        where the region cuts it off; (0, 1) for a region that is one word or none, and without `boundaries`.

        Args:
            features, control_points, batch_indices: see `forward`.
        """
        return [[(0.0, 1.0)] for _ in control_points]

    def boundary_loss(
        self, features: torch.Tensor, words: LabelledWords, ignored: torch.Tensor, regions: Regions | None
    ) -> dict[str, torch.Tensor]:
        """Loss of `boundaries`, where there are any.

        Args:
            features: (B, C, H, W).
            words: the M labelled words of these images, all of them.
            ignored: (M,) bool, words of which it is not known where their parts end.
            regions: what the detector found, `None` where it was not asked.
        """
        return {}

    def forward(
        self,
        features: torch.Tensor | FeatureLevels,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        classes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (N, T, classes) of words.

        Args:
            features: (B, C, H, W), or what is known of such a map already.
            control_points: (N, 8, 2) pixels of the network's input, see `transformers_tcm.bezier`.
            batch_indices: (N,) the image that each word is in.
            classes: (N, L) the right characters, for decoders to be taught with.
        """
        parts = self._look(features, control_points, batch_indices, self.classify, classes)
        if parts:
            return torch.cat(parts)
        return FeatureLevels.of(features).finest.new_zeros(0, self.num_steps, self.settings.num_classes)

    def test_time_augmentation(
        self,
        features: torch.Tensor | FeatureLevels,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        text_threshold: float | torch.Tensor = 0.0,
        first: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (N, V, T, classes) of words in all views, the word itself first.

        Further views are looked at only of words that a language model will search for, see `needs_search`; for others
        the first one stands V times. Of the first view the logits (N, 1, T, classes) can be given.
        """
        if first is None:
            first = self(features, control_points, batch_indices)[:, None]  # (N, T, classes) -> (N, 1, T, classes)
        if self.language_model is None or not self.language_model.settings.margins:
            return first
        scores = torch.tensor([look.score for look in self.decode(first, use_language_model=False)])
        unclear = needs_search(scores, self.language_model.settings, text_threshold).nonzero()[:, 0].to(first.device)
        points = self.view_points(control_points[unclear])[:, 1:]  # (n, V - 1, 8, 2)
        views = first.repeat(1, 1 + len(self.language_model.settings.margins), 1, 1)
        others = self(features, points.flatten(0, 1), batch_indices[unclear].repeat_interleave(points.shape[1]))
        views[unclear, 1:] = others.unflatten(0, points.shape[:2])  # (n x (V - 1), T, classes)
        return views

    def view_points(self, control_points: torch.Tensor) -> torch.Tensor:
        """Words (N, 8, 2) as they are and with each margin of the language model, (N, V, 8, 2)."""
        margins = () if self.language_model is None else self.language_model.settings.margins
        return torch.stack([control_points, *(with_margin(control_points, margin) for margin in margins)], dim=1)

    def _look(
        self,
        features: torch.Tensor | FeatureLevels,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        layer: Layer,
        classes: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """What a layer makes of the states of words, see `forward`, a chunk of them at a time."""
        size = max(len(control_points), 1) if self.training else self.settings.chunk_size
        return [
            self._look_at_chunk(features, points, images, layer, classes)
            for points, images in zip(control_points.split(size), batch_indices.split(size), strict=True)
            if len(points)
        ]

    def _look_at_chunk(
        self,
        features: torch.Tensor | FeatureLevels,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        layer: Layer,
        classes: torch.Tensor | None,
    ) -> torch.Tensor:
        """`_look` for words that are encoded at once.

        Their number is rounded up by reading the last one several times: convolutions on a CPU keep compiled kernels
        and their memory for every number of words that they have met, gigabytes after a while.
        """
        extra = _rounded_up(len(control_points)) - len(control_points)
        crops = self.sampler(features, control_points, batch_indices)
        crops = torch.cat([crops, crops[-1:].expand(extra, -1, -1, -1)])
        if classes is not None:
            classes = torch.cat([classes, classes[-1:].expand(extra, -1)])
        return layer(self.encoder(crops), classes)[: len(control_points)]

    def loss(
        self,
        features: torch.Tensor,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        char_ids: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Weighted recognition loss of words with Unicode code points `char_ids` (N, L), zeros after the end."""
        if not len(control_points):
            # Something is read all the same, for nothing: every process of a distributed training needs gradients.
            corner = features.new_tensor([[0, 0], [32, 0], [32, 8], [0, 8]], dtype=torch.float32)
            nowhere = self(
                features, quads_to_bezier(corner)[None], batch_indices.new_zeros(1), char_ids.new_zeros(1, 1)
            )
            return {"loss_reading": nowhere.float().sum() * 0}
        classes = char_classes(char_ids, self.settings.charset)
        char_logits = self(features, self._jittered(control_points), batch_indices, classes)
        loss: torch.Tensor = self.decoder.loss(char_logits, classes)  # type: ignore[operator]
        return {"loss_reading": self.settings.loss_weight * loss}

    def _jittered(self, control_points: torch.Tensor) -> torch.Tensor:
        """Words (N, 8, 2) with corners moved at random in training, and the curves with them."""
        if not self.training or not self.settings.jitter:
            return control_points
        corners = torch.rand(len(control_points), 4, 2, device=control_points.device) * 2 - 1
        amount = self.settings.jitter * word_heights(control_points)[:, None, None]
        # Control points between two corners follow them like points on a straight side.
        return control_points + amount * quads_to_bezier(corners)


def _rounded_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, from there on of the multiples of 8."""
    step = min(2 ** max(count.bit_length() - 2, 0), 8)
    return -(-count // step) * step
