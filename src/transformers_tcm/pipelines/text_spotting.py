"""`pipeline("text-spotting")`: photos in, outlines of words and the words themselves out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import GeneratorType
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from ..instances import TextInstances
from ..lexicon import Lexicon, LexiconArgument, is_per_image, lexicon_per_image
from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting
from ..models.tcm.post_processing_tcm import as_tensors
from ..reading_order import lines, reading_order
from .looks import Batch, Look, coarser, turned, turned_back, worth_reading_again
from .text_detection import TextDetectionPipeline, as_instances, as_pipeline_inputs

__all__ = ["TextSpottingPipeline"]

READING = ("text_threshold", "lexicon", "lexicon_rule", "max_distance", "use_language_model")
ORIENTATIONS = ("auto", "upright")
# Votes (see `TCMTextSpottingOutput`) below which it is open which way the text of a picture runs, and by how many
# another direction has to be ahead.
_LEAST_VOTES, _LEAST_MARGIN = 0.5, 0.3


@dataclass
class _ImageWithLexicon:
    image: Any
    lexicon: Lexicon | None


class TextSpottingPipeline(TextDetectionPipeline):
    """Finds the text in images and reads it.

    ```python
    >>> import transformers_tcm
    >>> from transformers import pipeline
    >>> spotter = pipeline("text-spotting")
    >>> spotter("photo.jpg")
    [{'score': 0.93, 'label': 'text', 'box': {'xmin': 31.5, …}, 'polygon': …, 'text': 'SALE', …}, …]
    >>> spotter("photo.jpg", lexicon=["SALE", "OPEN"])
    ```

    Device, dtype and the model that is given as an object are treated as in `TextDetectionPipeline`.

    Raises:
        TypeError: for a model that is no text spotter, and for an argument that neither the pipeline nor a call knows.
        ValueError: without an image processor.
    """

    _task: ClassVar[str] = "text-spotting"
    _model_kind: ClassVar[str] = "text spotter"
    _model_class: ClassVar[type] = TCMForTextSpotting
    _forward_arguments: ClassVar[tuple[str, ...]] = (*READING, "orientation", "coarse_edge")

    def __call__(self, inputs: Any, lexicon: LexiconArgument = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Find and read the text in one image or in many.

        Args:
            inputs: an image or many, see `TextDetectionPipeline.__call__`.
            lexicon (`Lexicon` or `list`, *optional*): the words there can be: a `transformers_tcm.Lexicon` or a list of
                words for all images, or a list with one of these, or `None`, for each image.
            lexicon_rule (`str`, *optional*, defaults to `"within"`): which word of the lexicon takes the place of a
                reading: with `"within"` the nearest one if its edit distance is below `max_distance`, with `"nearest"`
                that one always, with `"weighted"` the nearest one where edits are weighed by the recogniser's
                probabilities. Readings that there is no word for are left out of the result.
            max_distance (`float`, *optional*): limit of the rules `"within"`, 1.5 unless given, and `"weighted"`, none
                unless given.
            text_threshold (`float`, *optional*): lowest score of a reading.
            use_language_model (`bool`, *optional*, defaults to `True`): let the recogniser's language model, if it has
                one, choose between likely readings; `False` reads character by character, as suits codes and number
                plates.
            orientation (`str`, *optional*, defaults to `"auto"`): `"auto"` reads some words of each picture both ways
                round, and a picture whose text turns out to be turned by 90, 180 or 270 degrees once more, upright;
                `"upright"` takes all as they are. With tiles there is no turning.
            kwargs: the other arguments of `TextDetectionPipeline.__call__`, from `batch_size` to `output_score_maps`.

        All but the first, and lexicons for single images, can also be given to `pipeline(…)`; what is given nowhere
        comes from the image processor.

        Returns:
            What `TextDetectionPipeline` returns, with three more entries for each instance, `text`, `text_score` in
            [0, 1], and `line`, which counts the lines of the image from 0, and in reading order (see
            `transformers_tcm.reading_order`). The list of an image without text that can be read is empty.

        Raises:
            ValueError: if there is another number of lexicons than of images, or a lexicon is empty or holds characters
                that the model cannot read, which are named.
        """
        inputs = as_pipeline_inputs(inputs)
        if is_per_image(lexicon):
            return super().__call__(_with_lexicons(inputs, lexicon), **kwargs)
        return super().__call__(inputs, lexicon=lexicon, **kwargs)

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        lexicon = given.get("lexicon")
        if is_per_image(lexicon):
            raise TypeError("lexicons for single images go with a call that has these images; give one lexicon for all")
        if lexicon is not None and not isinstance(lexicon, Lexicon):
            given["lexicon"] = Lexicon(lexicon)  # indexed once, for all images
        return super()._sanitize_parameters(**given)

    def preprocess(self, image: Any, **kwargs: Any) -> dict[str, dict[str, Any]]:  # type: ignore[override]
        if not isinstance(image, _ImageWithLexicon):
            return super().preprocess(image, **kwargs)
        prepared = super().preprocess(image.image, **kwargs)
        return {"images": {**prepared["images"], "lexicon": image.lexicon}}

    def _cut(self, image: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if not isinstance(image, _ImageWithLexicon):
            yield from super()._cut(image, *args, **kwargs)
            return
        for part in super()._cut(image.image, *args, **kwargs):
            yield _ImageWithLexicon(part, image.lexicon)

    def _look(
        self,
        images: list[dict[str, Any]],
        batch: Batch,
        target_sizes: torch.Tensor,
        post_processing: dict[str, Any],
    ) -> tuple[list[Look], list[dict[str, Any]]]:
        orientation = post_processing.get("orientation", "auto")
        if orientation not in ORIENTATIONS:
            raise ValueError(f"`orientation` is {orientation!r}; expected one of {', '.join(map(repr, ORIENTATIONS))}")
        turns = orientation == "auto" and "place" not in images[0]
        settings = {name: value for name, value in post_processing.items() if name != "orientation"}
        settings["output_turn_votes"] = turns
        looks, found = super()._look(images, batch, target_sizes, settings)
        if turns:
            for index, votes in enumerate(_turn_votes(looks, len(images))):
                one = {name: values[index : index + 1] for name, values in batch.items()}
                again = ([images[index]], one, target_sizes[index], settings)
                # Letters of lines that run up or down are often taken for words, which tell nothing.
                anything = any(_found_anything(look, index) for look in looks)
                if votes.max() < _LEAST_VOTES and anything:
                    votes = votes + self._sideways_votes(*again)
                turn = int(votes.argmax())
                if votes[turn] > votes[0] + _LEAST_MARGIN:
                    found[index] = self._turned(*again, turn)
        return looks, found

    def _sideways_votes(
        self, image: list[dict[str, Any]], batch: Batch, size: torch.Tensor, settings: dict[str, Any]
    ) -> np.ndarray:
        """Votes (4,) that a coarse look at the image on its side gives."""
        edge = settings.get("coarse_edge", self.image_processor.coarse_edge)
        small = (coarser(batch, edge, self._divisor) if edge else None) or batch
        outputs, _ = self._read(image, turned(small, 1, self._divisor), size.flip(0)[None], settings)
        return np.roll(_turn_votes([Look([0], outputs)], 1)[0], 1)

    def _turned(
        self,
        image: list[dict[str, Any]],
        batch: Batch,
        size: torch.Tensor,
        settings: dict[str, Any],
        quarter_turns: int,
    ) -> dict[str, Any]:
        """What is found, in pixels of the image of `size` (2,), if that is turned anticlockwise first."""
        target = size.flip(0) if quarter_turns % 2 else size
        upright = turned(batch, quarter_turns, self._divisor)
        _, found = super()._look(image, upright, target[None], {**settings, "output_turn_votes": False})
        height, width = size.tolist()
        # In the reading order of the upright image.
        return as_tensors(turned_back(as_instances(found[0]), quarter_turns, (height, width)))

    def _read(
        self,
        images: list[dict[str, Any]],
        batch: Batch,
        target_sizes: torch.Tensor,
        post_processing: dict[str, Any],
    ) -> tuple[Any, list[dict[str, Any]]]:
        reading = {name: post_processing[name] for name in READING if name in post_processing}
        decoding = {name: post_processing[name] for name in self._decoding_names if name in post_processing}
        text_threshold = reading.get("text_threshold", self.image_processor.text_threshold)
        known = [image["known"] for image in images if "known" in image]
        outputs = self.model(
            **batch,
            decoding=asdict(self.image_processor.decoding_settings(**decoding)),
            text_threshold=text_threshold or 0.0,
            score_calibration=self.image_processor.score_calibration,
            use_language_model=reading.pop("use_language_model", True),
            output_turn_votes=post_processing["output_turn_votes"],
            regions_to_read=partial(worth_reading_again, known, batch, target_sizes) if known else None,
            return_dict=True,
        )
        reading["lexicon"] = [image.get("lexicon", reading.get("lexicon")) for image in images]
        return outputs, self.image_processor.post_process_text_spotting(outputs, target_sizes, **reading)

    def _seen(self, outputs: Any, target_sizes: torch.Tensor, found: Sequence[dict[str, Any]]) -> list[TextInstances]:
        # Letters that are too large come in pieces, which make no words that would be reported.
        everything = self.image_processor.post_process_text_spotting(outputs, target_sizes, text_threshold=0.0)
        return [as_instances(one) for one in everything]

    def _in_order(self, instances: TextInstances) -> TextInstances:
        return instances.select(reading_order(instances.polygons))

    def _instances(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        # Words that are in reading order already stay in it.
        rows = lines([polygon.numpy() for polygon in found["polygons"]])
        numbers = [number for number, row in enumerate(rows) for _ in row]
        words = zip(found["texts"], found["text_scores"].tolist(), numbers, strict=True)
        return [
            {**detection, "text": text, "text_score": score, "line": number}
            for detection, (text, score, number) in zip(super()._instances(found), words, strict=True)
        ]


def _turn_votes(looks: list[Look], num_images: int) -> np.ndarray:
    """The votes (B, 4) of all looks at a batch."""
    votes = np.zeros((num_images, 4), np.float32)
    for look in looks:
        votes[look.indices] += look.outputs.turn_votes.cpu().numpy()
    return votes


def _found_anything(look: Look, index: int) -> bool:
    """Whether a look at a batch has regions in an image."""
    return index in look.indices and bool((look.outputs.batch_indices == look.indices.index(index)).any())


def _with_lexicons(inputs: Any, lexicons: LexiconArgument) -> Any:
    """One image, or a list, a generator or a dataset of many, each with its lexicon."""
    if isinstance(inputs, list):
        pairs = zip(inputs, lexicon_per_image(lexicons, len(inputs)), strict=True)
        return [_ImageWithLexicon(*pair) for pair in pairs]
    if isinstance(inputs, GeneratorType):
        return _pairs(inputs, lexicons)
    if isinstance(inputs, IterableDataset):
        return _pairs(inputs, lexicons)
    if isinstance(inputs, Dataset):
        count: int = len(inputs)  # type: ignore[arg-type]  # those of fixed length, as the base class takes them
        return _pairs((inputs[index] for index in range(count)), lexicons)
    return _ImageWithLexicon(inputs, *lexicon_per_image(lexicons, 1))


def _pairs(images: Iterable[Any], lexicons: Any) -> Iterator[_ImageWithLexicon]:
    """Images whose number shows at the end."""
    indexed = lexicon_per_image(lexicons, len(lexicons))
    number = 0
    for number, image in enumerate(images, start=1):
        if number > len(indexed):
            raise ValueError(f"{len(indexed)} lexicons for more images; expected one for each, or a single one for all")
        yield _ImageWithLexicon(image, indexed[number - 1])
    if number < len(indexed):
        raise ValueError(f"{len(indexed)} lexicons for {number} images; expected one for each, or a single one for all")
