"""TCM and FastTCM as a text spotter: what the detection head proposes is straightened and read, in one model.

References: FastTCM, Yu et al., TPAMI 2024; ABCNet, Liu et al., CVPR 2020.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import initialization as init
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter, WeightRenaming
from transformers.utils import ModelOutput, can_return_tuple, logging

from ... import geometry
from .attention_tcm import follow_attention_of
from .configuration_tcm import TCMConfig
from .heads.base import DetectionHead, Regions
from .loading_tcm import configurations, quantisation_without
from .modeling_tcm import (
    TCMForTextDetection,
    TCMModelOutput,
    TCMTextDetectionOutput,
    recorded,
    valid_sizes,
)
from .recognition import recognizer_class
from .recognition.base import Recognizer
from .recognition.joining import join_pieces
from .recognition.proposals import LabelledWords, outlines_to_bezier, regions_to_bezier
from .recognition.reading import WordReading, char_classes
from .recognition.sampling import FeatureLevels
from .recognition.splitting import Sections, split_at_boundaries, split_at_spaces, split_joined_words
from .score_calibration import ScoreCalibration

logger = logging.get_logger(__name__)

__all__ = ["TCMForTextSpotting", "TCMTextSpottingOutput"]

# Words of an image that are asked by how much it is turned.
_MOST_WITNESSES = 8
# Quads nearer to a square do not tell along which of their sides they are read.
_LEAST_ASPECT = 1.3
_FEWEST_LETTERS = 3
# What spelling counts beside the looks for which way a word is read: letters on their head look like others.
_SPELLING_WEIGHT = 0.4

# Modules whose weights files have packed in one, see the end of this module.
_PACKED_IN_FILES = r"recognizer\.encoder\.layers\.\d+\.word_attention"

# From first looks at N regions, and the scores (N,) of these, to the least scores, one or (N,), that are reported.
LeastScores = Callable[[Sequence[WordReading], torch.Tensor], float | torch.Tensor]


@dataclass
class TCMTextSpottingOutput(TCMTextDetectionOutput):
    """Output of `TCMForTextSpotting`; the image processor's `post_process_text_spotting` turns it into words.

    The N proposals of all images of the batch follow each other. There are none where the model is trained on labels.

    Args:
        loss: scalar, the sum of `loss_dict`, where labels are given.
        loss_dict: weighted loss terms by name.
        head_output: the detection head's maps.
        score_map: (B, K, h, w) cosine of every position with the text; `None` without prompting.
        valid_sizes: (B, 2) height and width of each image within the padded input.
        hidden_states: maps of the stem and the four stages, where asked for.
        attentions, decoder_attentions, cross_attentions: as in `TCMModelOutput`, where asked for.
        points: (sum of K_i, 2) outlines of the proposals, in pixels of the network's input.
        counts: (N,) points of each outline.
        batch_indices: (N,) the image that each proposal is in.
        scores: (N,) detection scores.
        labels: (N,) classes.
        char_logits: (N, V, T, classes) of every class at every step of the recogniser. There is one view of a word,
            more where a language model asks for them.
        sequences: (N, L) what was read, as Unicode code points with zeros after the end.
        text_scores: (N,) how clear the characters look, in [0, 1].
        char_probabilities: (N, L, len(charset)) of every character of the charset at each place.
        turn_votes: (B, 4) how strongly words of an image vote for its text being turned clockwise by 0, 90, 180 and 270
            degrees, where asked for.
    """

    points: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    batch_indices: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    char_logits: torch.Tensor | None = None
    sequences: torch.Tensor | None = None
    text_scores: torch.Tensor | None = None
    char_probabilities: torch.Tensor | None = None
    turn_votes: torch.Tensor | None = None


class TCMForTextSpotting(TCMForTextDetection):
    """TCM with a detection head and a recogniser on shared features, or with a head that reads what it finds.

    The weights of the detector in it have the names they have in `TCMForTextDetection`, so each loads from the other:
    `TCMForTextSpotting.from_pretrained(detector, recognizer={})` starts a spotter from a detector.

    Args:
        config: its settings; `recognizer` describes the recogniser, `None` for heads that read.

    Raises:
        ValueError: for the configuration of a detector.
    """

    _keys_to_ignore_on_load_unexpected = []  # a detector leaves the recogniser of a spotter's weights out
    recognizer: Recognizer | None

    def __init__(self, config: TCMConfig):
        if not config.is_spotter:
            raise ValueError("this configuration describes a detector; `recognizer={}` adds the default recogniser")
        super().__init__(config)
        self.recognizer = self._make_recognizer()
        if self.recognizer is not None:
            self._no_split_modules = [*self._no_split_modules, type(self.recognizer).__name__]
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Any:
        """See `TCMForTextDetection.from_pretrained`; characters of another `charset` than stored start at random.

        `from_pretrained(x, recognizer={"charset": …})` keeps all other settings of the recogniser, and what it has
        learnt of the characters that it shares with the checkpoint, see `set_charset`.
        """
        if kwargs.get("quantization_config") is not None:
            # transformers quantises one of the weights that are made of a packed one, and loses the others.
            kwargs["quantization_config"] = quantisation_without(kwargs["quantization_config"], _PACKED_IN_FILES)
        found = configurations(pretrained_model_name_or_path, kwargs)
        if found is None or not found.replaces_charset:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        arguments = {**found.arguments, "config": found.with_stored_charset()}
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **arguments)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        assert found.chosen.recognizer is not None  # as in all that `replaces_charset`
        model.set_charset(found.chosen.recognizer["charset"], found.chosen.recognizer["language_model"])
        return loaded

    def _make_recognizer(self) -> Recognizer | None:
        settings, vision = self.config.recognizer_settings, self.config.vision_config
        if settings is None:
            return None
        in_channels = vision.width if settings.feature_stride == 2 else vision.hidden_sizes[0]
        recognizer: Recognizer = recognizer_class(settings.decoder)(settings, in_channels)
        follow_attention_of(self.config, recognizer)
        return recognizer

    @torch.no_grad()
    def set_charset(self, charset: str, language_model: dict[str, Any] | None = None) -> str:
        """Let the recogniser read other characters, in place; what it knows of those that stay is kept.

        Make the image processor fit with `image_processor.for_model(model.config)`.

        Args:
            charset: the characters, each once.
            language_model: settings of the language model, `None` for none.

        Returns:
            The characters that are new, whose weights start at random.

        Raises:
            ValueError: for a head that reads what it finds, and for a charset with a character twice.
        """
        former = self.recognizer
        if former is None:
            raise ValueError(f"the head {self.config.head_type!r} has no recogniser whose charset could change")
        self.config.recognizer = {
            **(self.config.recognizer or {}),
            "charset": charset,
            "language_model": language_model,
        }
        recognizer = self._make_recognizer()
        assert recognizer is not None  # its settings were just changed
        weights = next(former.parameters())
        self.recognizer = recognizer.apply(self._init_weights).to(weights).train(former.training)
        new = recognizer.adopt(former)
        if new:
            logger.warning(
                f"{len(new)} of {len(charset)} characters are new to the recogniser and start at random; train it "
                f"before it reads them: {new}"
            )
        if former.language_model is not None and recognizer.language_model is None:
            logger.warning("the language model is left out: it knows other characters")
        return new

    def _check_head(self, head: type[DetectionHead]) -> None:
        if head.task != "text":
            raise ValueError(f"the head {self.config.head_type!r} finds oriented objects, which hold no text")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.GRUCell):
            # As torch does; weights that are missing in a checkpoint hold anything until they are set here.
            for parameter in module.parameters():
                init.uniform_(parameter, -(module.hidden_size**-0.5), module.hidden_size**-0.5)

    def train(self, mode: bool = True) -> "TCMForTextSpotting":
        """Training or evaluation mode; a frozen model or head stays in the latter, or its batch norms would drift."""
        super().train(mode)
        for part in (self.model, self.head, *(self.recognizer.children() if self.recognizer is not None else ())):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    @property
    def _score_map_loss_form(self) -> str:
        return "dice"  # as all spotters (TCM), whatever the head

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
        decoding: Mapping[str, Any] | None = None,
        train_detection: bool | torch.Tensor = True,
        use_language_model: bool = True,
        text_threshold: float = 0.0,
        score_calibration: Mapping[str, float] | None = None,
        output_training_maps: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        output_turn_votes: bool = False,
        regions_to_read: Callable[[Regions], Sequence[int]] | None = None,
        **kwargs: object,
    ) -> TCMTextSpottingOutput:
        """Find and read the text of a batch of images.

        Args:
            pixel_values: (B, 3, H, W), normalised; H and W multiples of 32.
            pixel_mask: (B, H, W), 1 inside each image, 0 in the padding right and below; the whole map without one.
            labels: of all images, as the collator makes them: the head's targets, and of the M words `ignore` (M,),
                `control_points` (M, 8, 2) and `char_ids` (M, L), Unicode code points with zeros after the end, with
                `word_counts` (B,). Words that are ignored, or of zeros only, train the detection alone. In training
                mode only the words of the labels are read, otherwise the model's own proposals.
            decoding: settings by which proposals are decoded, of the head's `decoding_class`; the image processor of a
                spotter adds its own to every batch.
            train_detection: (B,), or one for all: `False` where an image's labels only hold words. Such images train
                the recogniser alone; the head's targets and the outputs are those of the others.
            use_language_model, text_threshold: see `read`.
            score_calibration: fields of the `ScoreCalibration` by which the image processor makes what it reports of
                the scores of outputs, if it does: `text_threshold` is one of reported scores then.
            output_training_maps: also compute the maps that only the loss needs.
            output_hidden_states: also return the maps of stem and stages.
            output_attentions: also return attention weights, which takes eager attention.
            output_turn_votes: also find out which way the text of each image runs, by reading some words the other
                way round. Heads that read by themselves know no other way: their votes are zeros.
            regions_to_read: gives the indices of the regions that are worth the time, of all that were found in the
                batch, in pixels of the input; the others are left out. Without it all are read.

        Raises:
            ValueError: if the labels are those of other images, or lack what they should hold.
            TypeError: for labels that are not joined for the batch, or an unknown name in `decoding`.
        """
        self._check_labels(labels, pixel_values)
        words = crops = None
        if labels is not None and self.recognizer is not None:
            words = LabelledWords.from_labels(labels)
            photos = torch.as_tensor(train_detection, device=pixel_values.device).expand(len(pixel_values))
            if not photos.any():
                losses = self.recognizer.loss(self._reading_features(pixel_values), *vars(words.readable()).values())
                return TCMTextSpottingOutput(loss=torch.stack(list(losses.values())).sum(), loss_dict=losses)
            if not photos.all():
                # Photos come first from here on.
                words = words.in_images((~photos).int().argsort(stable=True).argsort())
                crops, pixel_values = pixel_values[~photos], pixel_values[photos]
                pixel_mask = None if pixel_mask is None else pixel_mask[photos]
        outputs = self.model(pixel_values, pixel_mask, output_hidden_states, output_attentions, return_dict=True)
        sizes = valid_sizes(pixel_values, pixel_mask)
        with_training_maps = self.training or output_training_maps or labels is not None
        maps = self._detect(outputs, pixel_mask, sizes, with_training_maps)
        settings = self.head.decoding_class(**(decoding or {}))
        loss_dict: dict[str, torch.Tensor] | None = None
        found: dict[str, Any] = {}
        if labels is not None:
            loss_dict = self._detection_losses(maps, outputs.score_logits, labels)
        if words is not None:
            proposals = self._proposals_to_learn_from(maps, sizes, settings)
            readable = words.readable()
            if proposals is not None:
                readable = readable.with_matched(proposals).with_background(proposals, words)
            loss_dict = {**(loss_dict or {}), **self._reading_losses(self._features(outputs), crops, readable)}
            assert labels is not None  # otherwise there are no words
            assert self.recognizer is not None
            # Without collages, where words have neighbours without labels.
            here = words.batch_indices < len(pixel_values)
            known = words.select(here), labels["ignore"].bool()[here]
            loss_dict |= self.recognizer.boundary_loss(self._features(outputs), *known, proposals)
        if labels is None or not self.training:
            # Not the model's device, whose weights may be elsewhere until they are used.
            regions = everything = self.head.decode(maps, sizes, settings).to(sizes.device)
            if regions_to_read is not None:
                regions = everything.select(regions_to_read(everything))
            features = None if self.recognizer is None else FeatureLevels(self._features(outputs))
            calibration = None if score_calibration is None else ScoreCalibration.of(score_calibration)
            least_scores = partial(_least_scores, text_threshold, calibration)
            read = partial(self._read_regions, features, use_language_model, least_scores)
            split = partial(self._split_regions, maps, sizes, settings)
            regions, readings = self._read_words(features, regions, read, split)
            if output_turn_votes:
                # Those that are not read as well: of some turned pictures the others are too few to tell.
                voters = regions if regions_to_read is None else everything
                found["turn_votes"] = self._turn_votes(features, voters, len(sizes))
            found |= {name: value for name, value in vars(regions).items() if name != "control_points"}
            found |= self._as_fields(readings, regions.scores.device)
        return TCMTextSpottingOutput(
            loss=None if loss_dict is None else torch.stack(list(loss_dict.values())).sum(),
            loss_dict=loss_dict,
            head_output=maps,
            score_map=outputs.score_map,
            valid_sizes=sizes,
            **recorded(outputs),
            **found,
        )

    def read(
        self, char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float = 0.0
    ) -> dict[str, torch.Tensor]:
        """What N words say, as the fields `sequences`, `text_scores` and `char_probabilities` of the output.

        Args:
            char_logits: (N, V, T, classes) of the output.
            use_language_model: let the language model, if there is one, choose between likely readings; `False` reads
                character by character, whatever is a word.
            text_threshold: words whose characters look less clear are not searched for further, which takes the time.
        """
        return self._as_fields(self._readings(char_logits, use_language_model, text_threshold), char_logits.device)

    def _as_fields(self, readings: list[WordReading], device: torch.device) -> dict[str, torch.Tensor]:
        """Readings as fields of the output."""
        charset = (self.recognizer or self.head).settings.charset
        return _as_tensors(readings, len(charset), device)

    def _readings(
        self, char_logits: torch.Tensor, use_language_model: bool, text_threshold: float | torch.Tensor = 0.0
    ) -> list[WordReading]:
        if self.recognizer is None:
            language_model = self.head.language_model if use_language_model else None
            readings: list[WordReading] = self.head.read(  # type: ignore[operator]
                char_logits, self.head.settings, language_model, text_threshold
            )
            return readings
        return self.recognizer.decode(char_logits, use_language_model, text_threshold)

    def recognize(
        self, pixel_values: torch.Tensor, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> list[WordReading]:
        """Read N words at given places, without detecting any.

        Args:
            pixel_values: (B, 3, H, W), normalised; H and W multiples of 32.
            control_points: (N, 8, 2) pixels of the input, see `transformers_tcm.bezier`.
            batch_indices: (N,) the image that each word is in.

        Raises:
            ValueError: for a head that reads what it finds, and nothing else.
        """
        if self.recognizer is None:
            raise ValueError(f"the head {self.config.head_type!r} reads only what it finds itself")
        features = self._reading_features(pixel_values)
        return self.recognizer.decode(self.recognizer.test_time_augmentation(features, control_points, batch_indices))

    @property
    def _reads_the_stem(self) -> bool:
        return self.recognizer is not None and self.recognizer.settings.feature_stride == 2

    def _features(self, outputs: TCMModelOutput) -> torch.Tensor:
        """The map that words are cut out of."""
        assert outputs.stem_features is not None  # `TCMModel` always gives them
        assert outputs.feature_maps is not None
        return outputs.stem_features if self._reads_the_stem else outputs.feature_maps[0]

    def _reading_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The same without the rest of the image encoder."""
        backbone = self.model.backbone
        features = backbone.stem.before_pooling(pixel_values)
        return features if self._reads_the_stem else backbone.stages[0](backbone.stem[-1](features))

    def _reading_losses(
        self, features: torch.Tensor, crops: torch.Tensor | None, words: LabelledWords
    ) -> dict[str, torch.Tensor]:
        """Loss of the words of photos, whose features are given, and of images of words (B, 3, H, W) after them.

        The latter do not look like photos, so the image encoder's batch norms must not learn their statistics.
        """
        assert self.recognizer is not None  # otherwise there are no words to be taught
        if crops is not None:
            backbone = self.model.backbone
            training = backbone.training
            try:
                backbone.eval()
                features = torch.cat([features, self._reading_features(crops)])
            finally:
                backbone.train(training)
        return self.recognizer.loss(features, words.control_points, words.batch_indices, words.char_ids)

    def _proposals_to_learn_from(self, maps: ModelOutput, sizes: torch.Tensor, settings: Any) -> Regions | None:
        """The model's own, where it is trained on them as well."""
        if self.recognizer is None or not (self.training and self.recognizer.settings.train_on_proposals):
            return None
        return self.head.decode(maps, sizes, settings).to(sizes.device)

    def _turn_votes(self, features: FeatureLevels | None, regions: Regions, num_images: int) -> torch.Tensor:
        """Votes (B, 4) of the largest words of each image, each for the direction in which it is read better than the
        other way round, by how much better."""
        polygons, images = regions.polygons(), regions.batch_indices.cpu().numpy()
        chosen = [
            index for image in range(num_images) for index in _witnesses(polygons, np.flatnonzero(images == image))
        ]
        votes = torch.zeros(num_images, 4)
        if self.recognizer is None or features is None or not chosen:
            return votes
        witnesses = regions.select(chosen)
        as_found = self._glance_at_regions(features, witnesses)
        quads = witnesses.polygons()
        # From the opposite corner.
        on_head = self._glance(features, [np.roll(quad, -2, axis=0) for quad in quads], witnesses.batch_indices)
        likelihoods = np.array([self._likelihoods(readings) for readings in (as_found, on_head)])  # (2, N)
        looks = zip(as_found, on_head, strict=True)
        for image, quad, texts, likelihood in zip(images[chosen], quads, looks, likelihoods.T, strict=True):
            better = int(likelihood.argmax())
            # Single letters look alike both ways round.
            if len(texts[better].text) >= _FEWEST_LETTERS:
                votes[image, (_direction(quad) + 2 * better) % 4] += float(np.ptp(likelihood))
        return votes

    def _read_regions(
        self, features: FeatureLevels | None, use_language_model: bool, least_scores: LeastScores, regions: Regions
    ) -> list[WordReading]:
        """What regions say; fills their `char_logits` where the head did not, and turns those that run along their
        height."""
        if features is not None:
            self._look_at(regions, features, least_scores if use_language_model else None)
        assert regions.char_logits is not None  # of the recogniser or of a head that reads
        looks = self._readings(regions.char_logits, use_language_model=False)
        if not use_language_model or (self.recognizer or self.head).language_model is None:
            return looks
        return self._readings(regions.char_logits, True, least_scores(looks, regions.scores))

    def _read_words(
        self,
        features: FeatureLevels | None,
        regions: Regions,
        read: Callable[[Regions], list[WordReading]],
        split: Callable[[Regions], tuple[Regions, Sequence[int]]],
    ) -> tuple[Regions, list[WordReading]]:
        """Regions with the words that some of them hold, or are pieces of, in their place, and what they say; see
        `splitting` and `joining` for how."""
        readings = read(regions)
        if self.recognizer is None or features is None:
            return regions, readings
        assert regions.char_logits is not None  # they were read
        spaces = self.recognizer.find_spaces(regions.char_logits)
        regions, readings = split_at_spaces(regions, readings, spaces, read, self._likelihoods)
        glance = partial(self._glance_at_regions, features)
        regions, readings = split_joined_words(regions, readings, split, glance, read)
        if self.recognizer.boundaries is not None:
            find = partial(self._words_along, features)
            regions, readings = split_at_boundaries(regions, readings, find(regions), read, self._likelihoods)
            regions, readings = join_pieces(regions, readings, find, read, self._likelihoods)
        return regions, readings

    def _words_along(self, features: FeatureLevels, regions: Regions) -> Sequence[Sections]:
        """See `Recognizer.find_words`."""
        assert self.recognizer is not None
        return self.recognizer.find_words(features, regions_to_bezier(regions), regions.batch_indices)

    def _split_regions(
        self, maps: ModelOutput, sizes: torch.Tensor, settings: Any, regions: Regions
    ) -> tuple[Regions, Sequence[int]]:
        """Parts of regions, where they can be read, and the region that each is of."""
        parts, sources = self.head.split(maps, sizes, settings, regions)
        return parts.to(sizes.device), sources

    def _glance_at_regions(self, features: FeatureLevels, regions: Regions) -> list[WordReading]:
        """First looks at regions, without a language model."""
        assert self.recognizer is not None
        if regions.char_logits is None:
            self._look_at(regions, features)
        assert regions.char_logits is not None
        return self.recognizer.decode(regions.char_logits[:, :1], use_language_model=False)

    def _look_at(self, regions: Regions, features: FeatureLevels, least_scores: LeastScores | None = None) -> None:
        """Fill the `char_logits` of regions, with a first look at each and further ones at those that reach their
        least score by it, and turn those that run along their height."""
        assert self.recognizer is not None
        points, images = regions_to_bezier(regions), regions.batch_indices
        if regions.control_points is None and self.recognizer.straightens:
            # A head that does not know the sides does not know either which way a tall word runs.
            polygons = regions.polygons()
            tall = [index for index, polygon in enumerate(polygons) if geometry.is_tall_quad(polygon)]
            if tall:
                along = self._along_height(features, [polygons[index] for index in tall], images[tall])
                for index, quad in zip(tall, along, strict=True):
                    polygons[index] = quad
                regions.points = torch.from_numpy(np.concatenate(polygons)).to(regions.points)
                points = regions_to_bezier(regions)
        first = self.recognizer(features, points, images)[:, None]  # (N, T, classes) -> (N, 1, T, classes)
        least: float | torch.Tensor = np.inf
        if least_scores is not None:
            least = least_scores(self.recognizer.decode(first, use_language_model=False), regions.scores)
        regions.char_logits = self.recognizer.test_time_augmentation(features, points, images, least, first)

    def _likelihoods(self, readings: Sequence[WordReading]) -> list[float]:
        """How likely readings are words, in [0, 1]: by how clear they are, and a little by how they are spelled."""
        assert self.recognizer is not None
        language_model = self.recognizer.language_model
        if language_model is None:
            return [reading.score for reading in readings]
        longest = max(1, *(len(reading.text) for reading in readings))
        ids = torch.zeros(len(readings), longest, dtype=torch.int64)
        for row, reading in zip(ids, readings, strict=True):
            row[: len(reading.text)] = torch.tensor([ord(character) for character in reading.text], dtype=torch.int64)
        perplexities = language_model.perplexities(char_classes(ids, self.recognizer.settings.charset))
        weights = (perplexities**-_SPELLING_WEIGHT).tolist()
        return [reading.score * weight for reading, weight in zip(readings, weights, strict=True)]

    def _along_height(
        self, features: FeatureLevels, quads: list[np.ndarray], images: torch.Tensor
    ) -> Iterator[np.ndarray]:
        """Tall quads, each from the corner where its surest reading starts: across, down or up."""
        ways = []
        for first_corner in (0, 1, 3):
            turned = [np.roll(quad, -first_corner, axis=0) for quad in quads]
            readings = self._glance(features, turned, images)
            ways.append([(reading.score, quad) for reading, quad in zip(readings, turned, strict=True)])
        for options in zip(*ways, strict=True):
            yield max(options, key=lambda option: option[0])[1]

    def _glance(self, features: FeatureLevels, quads: list[np.ndarray], images: torch.Tensor) -> list[WordReading]:
        """First looks at N quads (4, 2), without a language model; images (N,)."""
        assert self.recognizer is not None
        logits = self.recognizer(features, outlines_to_bezier(quads).to(images.device), images)
        return self.recognizer.decode(logits[:, None], use_language_model=False)


def _least_scores(
    text_threshold: float, calibration: ScoreCalibration | None, looks: Sequence[WordReading], scores: torch.Tensor
) -> float | torch.Tensor:
    """The scores that N readings need, one for all or (N,), to be reported at a threshold, if they are as long as the
    looks at them; scores (N,) of their regions."""
    if calibration is None:
        return text_threshold
    lengths = np.array([len(look.text) for look in looks])
    return torch.from_numpy(calibration.least_text_scores(text_threshold, scores.float().cpu().numpy(), lengths))


def _witnesses(polygons: Sequence[np.ndarray], indices: np.ndarray) -> list[int]:
    """Of those `indices` the largest quads that are clearly longer, in the direction they are read in, than high."""
    areas = {}
    for index in indices.tolist():
        if len(polygons[index]) == 4:
            width, height = np.linalg.norm(polygons[index][[1, 3]] - polygons[index][0], axis=1)
            if width > _LEAST_ASPECT * height:
                areas[index] = width * height
    return sorted(areas, key=areas.__getitem__, reverse=True)[:_MOST_WITNESSES]


def _direction(quad: np.ndarray) -> int:
    """Quarter turns clockwise of the direction from the first corner of a quad (4, 2) to the second."""
    x, y = quad[1] - quad[0]
    return int(np.rint(np.arctan2(y, x) / (np.pi / 2))) % 4


def _as_tensors(readings: list[WordReading], num_characters: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Readings as fields of the output, padded with zeros to the longest (N, L)."""
    longest = max([1, *(len(reading.text) for reading in readings)])
    sequences = np.zeros((len(readings), longest), np.int64)
    probabilities = np.zeros((len(readings), longest, num_characters), np.float32)
    for index, reading in enumerate(readings):
        sequences[index, : len(reading.text)] = [ord(character) for character in reading.text]
        probabilities[index, : len(reading.text)] = reading.probabilities
    fields = {
        "sequences": sequences,
        "text_scores": np.array([reading.score for reading in readings], np.float32),
        "char_probabilities": probabilities,
    }
    return {name: torch.from_numpy(values).to(device) for name, values in fields.items()}


# Files keep the names of torch's attention, which the recogniser once used: projections of queries, keys and values are
# packed into one. Saving reverts what loading does.
register_checkpoint_conversion_mapping(
    TCMForTextSpotting.__name__,
    [
        WeightRenaming(
            r"recognizer\.encoder\.layers\.(\d+)\.self_attn\.", r"recognizer.encoder.layers.\1.word_attention."
        ),
        *(
            WeightConverter(
                source_patterns=rf"word_attention\.in_proj_{leaf}",
                target_patterns=[f"word_attention.{part}_proj.{leaf}" for part in "qkv"],
                operations=[Chunk(dim=0)],
            )
            for leaf in ("weight", "bias")
        ),
    ],
    overwrite=True,  # a module that is imported twice, such as from a folder of the Hub, registers again
)
