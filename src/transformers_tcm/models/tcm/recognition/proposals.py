"""From outlines of words to the control points that the recogniser takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from .... import geometry
from ....bezier import CORNERS, bezier_to_polygon, fit_bezier, outline_to_bezier
from ..heads.base import Regions
from ..heads.boxes import box_iou
from .sampling import quads_to_bezier

__all__ = ["LabelledWords", "outlines_to_bezier", "regions_at", "regions_to_bezier", "words_to_bezier"]

# A proposal is taken for a word if both boxes share at least half of their union.
MATCH_IOU = 0.5
# Words of a few batches.
FITS_KEPT = 8192


def words_to_bezier(polygons: Sequence[np.ndarray], texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Control points (N, 8, 2) float32 of labelled words (K_i, 2), and which (N,) have any, not zeros.

    They start where `geometry.quad_along_word` takes the words to begin.
    """
    control_points, fitted = np.zeros((len(polygons), 8, 2), np.float32), np.zeros(len(polygons), bool)
    for index, (polygon, text) in enumerate(zip(polygons, texts, strict=True)):
        outline = np.asarray(geometry.quad_along_word(polygon, text), np.float64)
        curves = _fitted(outline.tobytes()) if outline.ndim == 2 and outline.shape[1] == 2 else None
        if curves is not None:
            control_points[index], fitted[index] = curves, True
    return control_points, fitted


@lru_cache(FITS_KEPT)
def _fitted(outline: bytes) -> np.ndarray | None:
    """Control points (8, 2) of an outline (K, 2) float64, `None` for a line or a bow tie, which is no word.

    A head's targets and the recogniser's ask for the same words of a batch, one after the other.
    """
    try:
        return fit_bezier(np.frombuffer(outline).reshape(-1, 2))
    except ValueError:
        return None


def regions_to_bezier(regions: Regions) -> torch.Tensor:
    """Control points (N, 8, 2) float32 of what a head found: its own where it knows the sides, else fitted ones."""
    if regions.control_points is not None:
        return regions.control_points.float()
    return outlines_to_bezier(regions.polygons()).to(regions.points.device)


def regions_at(regions: Regions, control_points: np.ndarray) -> Regions:
    """The same N regions at other places, not read yet.

    Args:
        regions: those with four corners keep four, of others the outline follows the curves.
        control_points: (N, 8, 2) of the places.
    """
    four_cornered = (regions.counts == len(CORNERS)).tolist()
    outlines = [
        curves[CORNERS] if four else bezier_to_polygon(curves)
        for curves, four in zip(control_points, four_cornered, strict=True)
    ]
    return replace(
        regions,
        points=torch.from_numpy(np.concatenate(outlines)).to(regions.points),
        counts=torch.tensor([len(outline) for outline in outlines]).to(regions.counts),
        control_points=(
            None if regions.control_points is None else torch.from_numpy(control_points).to(regions.control_points)
        ),
        char_logits=None,
    )


def outlines_to_bezier(polygons: Sequence[np.ndarray]) -> torch.Tensor:
    """Control points (N, 8, 2) float32 of outlines (K_i, 2): quads as they are, others split into sides anew."""
    fitted = [_outline_to_bezier(polygon) for polygon in polygons]
    return torch.stack(fitted) if fitted else torch.zeros(0, 8, 2)


def _outline_to_bezier(polygon: np.ndarray) -> torch.Tensor:
    quad = polygon
    if len(polygon) != 4:
        try:
            return torch.from_numpy(outline_to_bezier(polygon))
        except ValueError:
            quad = geometry.min_area_quad(polygon)  # something has to be read: proposals have no other flaw
    return quads_to_bezier(torch.from_numpy(np.ascontiguousarray(quad, np.float32)))


@dataclass(frozen=True)
class LabelledWords:
    """The M words of a batch.

    Args:
        control_points: (M, 8, 2) pixels of the network's input.
        batch_indices: (M,) the image that each word is in.
        char_ids: (M, L) Unicode code points, zeros after the end of each word; zeros only where it cannot be read.
    """

    control_points: torch.Tensor
    batch_indices: torch.Tensor
    char_ids: torch.Tensor

    @classmethod
    def from_labels(cls, labels: Mapping[str, torch.Tensor]) -> "LabelledWords":
        """All of them; those that are ignored cannot be read.

        Raises:
            ValueError: if the labels hold no words.
        """
        missing = [name for name in ("control_points", "char_ids", "ignore", "word_counts") if name not in labels]
        if missing:
            raise ValueError(
                f"`labels` lack {', '.join(missing)}; build them with the collator of transformers_tcm.data for a "
                "configuration with a recogniser"
            )
        counts = labels["word_counts"]
        images = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        return cls(labels["control_points"], images, labels["char_ids"].masked_fill(labels["ignore"][:, None], 0))

    def readable(self) -> "LabelledWords":
        """Those that a recogniser can learn from."""
        return self.select((self.char_ids > 0).any(dim=1))

    def select(self, chosen: torch.Tensor) -> "LabelledWords":
        """Those of a mask (M,)."""
        return LabelledWords(self.control_points[chosen], self.batch_indices[chosen], self.char_ids[chosen])

    def in_images(self, places: torch.Tensor) -> "LabelledWords":
        """The same words where image b of the batch is now image `places[b]`; places (B,)."""
        return replace(self, batch_indices=places[self.batch_indices])

    def with_matched(self, regions: Regions) -> "LabelledWords":
        """Followed by the regions that lie on a word, as if that was labelled twice: proposals are not exact."""
        proposed = regions_to_bezier(regions).to(self.control_points)
        words, chosen = [], []
        for here, found, iou in self._overlaps(regions, proposed):
            if len(here):
                matched = iou.max(axis=0) >= MATCH_IOU
                words.append(here[iou.argmax(axis=0)[matched]])
                chosen.append(found[matched])
        if not words:
            return self
        twice = torch.cat(words).to(self.batch_indices.device)
        extra = proposed[torch.cat(chosen)]
        return LabelledWords(
            torch.cat([self.control_points, extra]),
            torch.cat([self.batch_indices, self.batch_indices[twice]]),
            torch.cat([self.char_ids, self.char_ids[twice]]),
        )

    def with_background(self, regions: Regions, labelled: "LabelledWords") -> "LabelledWords":
        """Followed by the regions that touch no labelled word, readable or not, as words without a character: what is
        no text is to be read as nothing."""
        proposed = regions_to_bezier(regions).to(self.control_points)
        apart = torch.ones(len(proposed), dtype=torch.bool)
        for _, found, iou in labelled._overlaps(regions, proposed):
            apart[found] = torch.from_numpy(iou.sum(axis=0) == 0)
        nothing = self.char_ids.new_zeros(int(apart.sum()), self.char_ids.shape[1])
        return LabelledWords(
            torch.cat([self.control_points, proposed[apart]]),
            torch.cat([self.batch_indices, regions.batch_indices[apart].to(self.batch_indices)]),
            torch.cat([self.char_ids, nothing]),
        )

    def _overlaps(
        self, regions: Regions, proposed: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
        """Image by image the words (N,) and the regions (M,) in it, and the IoU (N, M) of their boxes; `proposed` are
        the regions' control points (…, 8, 2)."""
        for image in regions.batch_indices.unique().tolist():
            here = (self.batch_indices == image).nonzero()[:, 0].cpu()
            found = (regions.batch_indices == image).nonzero()[:, 0].cpu()
            yield here, found, box_iou(_boxes(self.control_points[here]), _boxes(proposed[found]))


def _boxes(control_points: torch.Tensor) -> np.ndarray:
    """Boxes (N, 4) around control points (N, 8, 2)."""
    return torch.cat([control_points.amin(dim=1), control_points.amax(dim=1)], dim=1).float().cpu().numpy()
