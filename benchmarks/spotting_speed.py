"""Milliseconds per image of a text spotter, split into its stages.

    python benchmarks/spotting_speed.py [--model folder] [--images photo.jpg …] [--rounds 7] [--threads 2]

Without `--model` it is the bundled spotter, or while there is none, the bundled detector with an untrained recogniser,
which costs the same. A detector's folder is treated in the same way. The stages and the whole take turns within each
round, so that a machine whose speed drifts treats them alike; printed are the medians over the rounds, averaged over
the images.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from timing import in_turn
from transformers import pipeline

from transformers_tcm import (
    TCMConfig,
    TCMForTextSpotting,
    TCMImageProcessor,
    TextSpottingPipeline,
    bundled_model_path,
    geometry,
    load_image,
)
from transformers_tcm.models.tcm.modeling_tcm import valid_sizes
from transformers_tcm.models.tcm.recognition.proposals import outlines_to_bezier

PHOTO = Path(__file__).parents[1] / "examples" / "images" / "street.jpg"


def default_model() -> Path:
    """The bundled spotter if there is one, else the bundled detector."""
    try:
        return bundled_model_path("fasttcm-spotter-tiny")
    except ValueError:
        return bundled_model_path()


def load(folder: Path) -> TextSpottingPipeline:
    """The pipeline of a spotter, or of a detector with a new recogniser."""
    if TCMConfig.from_pretrained(folder).is_spotter:
        return pipeline("text-spotting", model=str(folder))
    model = TCMForTextSpotting.from_pretrained(folder, recognizer={})
    processor = TCMImageProcessor.from_pretrained(folder, text_threshold=0.0)
    return pipeline("text-spotting", model=model, image_processor=processor)


class Stages:
    """The road of one photo, cut into pieces that can be timed alone; each is given what the one before it made."""

    def __init__(self, spotter: TextSpottingPipeline, photo: PIL.Image.Image):
        self.spotter, self.photo = spotter, photo
        self.model, self.processor = spotter.model, spotter.image_processor
        self.inputs = self.preparation()
        self.features = self.backbone()
        self.control_points = self.proposals()
        self.crops = self.sampling()
        self.outputs = self.forward()

    def preparation(self) -> dict[str, Any]:
        return dict(self.processor(self.photo).to(self.model.dtype))

    def backbone(self) -> Any:
        return self.model.model(self.inputs["pixel_values"], self.inputs["pixel_mask"], return_dict=True)

    def proposals(self) -> torch.Tensor:
        """Control points of what is found; tall quads three times, as they are read in three directions."""
        sizes = valid_sizes(self.inputs["pixel_values"], self.inputs["pixel_mask"])
        maps = self.model._detect(self.features, self.inputs["pixel_mask"], sizes, False)
        head = self.model.head
        regions = head.decode(maps, sizes, head.decoding_class(**self.inputs["decoding"]))
        if regions.control_points is not None:
            return regions.control_points
        polygons = regions.polygons()
        tall = [quad for quad in polygons if geometry.is_tall_quad(quad)]
        turned = [np.roll(quad, -first_corner, axis=0) for first_corner in (1, 3) for quad in tall]
        return outlines_to_bezier(polygons + turned)

    def sampling(self) -> torch.Tensor | None:
        if not len(self.control_points):
            return None
        recognizer = self.model.recognizer
        stem = recognizer.settings.feature_stride == 2
        features = self.features.stem_features if stem else self.features.feature_maps[0]
        views = recognizer.view_points(self.control_points).flatten(0, 1)  # (N, V, 8, 2) -> (N x V, 8, 2)
        return recognizer.sampler(features, views, torch.zeros(len(views), dtype=torch.int64))

    def recognition(self) -> None:
        if self.crops is not None:
            for chunk in self.crops.split(self.model.recognizer.settings.chunk_size):
                self.model.recognizer.decoder(self.model.recognizer.encoder(chunk))

    def forward(self) -> Any:
        return self.model(**self.inputs)

    def post_processing(self) -> Any:
        return self.processor.post_process_text_spotting(self.outputs, self.inputs["target_sizes"])

    def named(self) -> dict[str, Callable[[], object]]:
        """What is timed, by name."""
        return {
            "preparation (resizing, normalising)": self.preparation,
            "backbone and prompting": self.backbone,
            "proposals (head, decoding, control points)": self.proposals,
            "sampling": self.sampling,
            "recognition": self.recognition,
            "post-processing (reading, order)": self.post_processing,
            "whole forward": self.forward,
            "whole pipeline": lambda: self.spotter(self.photo),
        }


def medians(stages: Stages, rounds: int) -> dict[str, float]:
    """Seconds of each stage."""
    return {name: statistics.median(values) for name, values in in_turn(stages.named(), rounds).items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a spotter or detector")
    parser.add_argument("--images", type=Path, nargs="+", default=[PHOTO])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spotter = load(arguments.model or default_model())
    measured, words = [], []
    for path in arguments.images:
        stages = Stages(spotter, load_image(path))
        measured.append(medians(stages, arguments.rounds))
        words.append(len(stages.control_points))
    print(f"{len(measured)} images, {statistics.mean(words):.1f} words read in each, {spotter.dtype}")
    for name in measured[0]:
        print(f"{1000 * statistics.mean(one[name] for one in measured):8.1f} ms   {name}")


if __name__ == "__main__":
    main()
