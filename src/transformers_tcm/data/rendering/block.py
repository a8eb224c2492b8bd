"""One block drawn into a scene: a word, a line, a paragraph, a board full of lines, or a pattern without text."""

from dataclasses import dataclass, field

import numpy as np

from ... import geometry
from .camera import Camera
from .fonts import FontCache
from .layout import FlatBlock, Spacing, lay_out
from .legibility import Legibility
from .paint import Paint, choose_colour, paint_layers, street_colour
from .patterns import lay_out_pattern
from .placement import PlacementMap
from .warp import Bend, view_matrix, word_polygon
from .words import WordSampler

__all__ = ["BlockArtist", "DrawnBlock", "SceneStyle"]

# Capitals are about this part of the font size high.
_CAPITAL = 0.7
# Channels of the flat layers.
_INK, _OUTLINE, _BOARD, _FRAME = range(4)


@dataclass(frozen=True)
class SceneStyle:
    """How often the renderer does what; the defaults resemble incidental photos of streets.

    Args:
        blocks: fewest and most blocks in a scene of 640 x 640, scaled with the area.
        median_height, height_spread: of the capital letters in pixels, log-normal with this sigma of the logarithm.
        min_height, max_height: limits of the capital letters in pixels.
        pattern: probability that a block is no text.
        board, outline, shadow, glow: probabilities of what surrounds the letters of a block.
        bend: probability of a bent base line, where the block is a single line.
        steep: probability of any direction instead of a nearly level one.
        faint: probability of a low contrast.
        camera: whether the photo is degraded at the end.
        legibility: which words are ignored.
    """

    blocks: tuple[int, int] = (2, 12)
    median_height: float = 17.0
    height_spread: float = 0.7
    min_height: float = 4.0
    max_height: float = 130.0
    pattern: float = 0.12
    board: float = 0.45
    outline: float = 0.12
    shadow: float = 0.15
    glow: float = 0.05
    bend: float = 0.12
    steep: float = 0.06
    faint: float = 0.12
    camera: bool = True
    legibility: Legibility = field(default_factory=Legibility)


@dataclass
class DrawnBlock:
    """The words of a block: outlines in pixels of the scene, transcriptions, whether to ignore them, line indices."""

    polygons: list[np.ndarray]
    words: list[str]
    ignore: list[bool]
    lines: np.ndarray


class BlockArtist:
    """Draws blocks in a style.

    Args:
        words: what is written.
        fonts: the faces.
        style: how often what is done.
    """

    def __init__(self, words: WordSampler, fonts: FontCache, style: SceneStyle):
        self.words = words
        self.fonts = fonts
        self.style = style

    def draw(
        self, scene: np.ndarray, free: PlacementMap, camera: Camera, rng: np.random.Generator
    ) -> DrawnBlock | None:
        """Draw one block into `scene` (H, W, 3) float32, in place; `None` if there is no place for it."""
        style = self.style
        height = float(np.exp(rng.normal(np.log(style.median_height), style.height_spread)))
        height = float(np.clip(height, style.min_height, style.max_height))
        flat, scale = self._write(height, rng) if rng.random() >= style.pattern else (lay_out_pattern(rng, height), 1.0)
        layers, grown = self._layers(flat, scale, rng)
        bend = self._choose_bend(flat, rng)
        if bend is not None:
            layers = bend.apply(layers)
        matrix, outline = self._choose_view(layers.shape[1], layers.shape[0], scale, rng)
        # What is too large for the scene comes out smaller, rather than not at all.
        fit = min(float((0.95 * np.array(scene.shape[1::-1]) / outline.max(axis=0)).min()), 1.0)
        matrix, outline = np.diag([fit, fit, 1.0]) @ matrix, outline * fit
        size = np.ceil(outline.max(axis=0)).astype(int)
        corner = free.find(rng, size)
        if corner is None:
            return None
        free.occupy(outline + corner)
        boxes = flat.boxes + np.array([-grown, -grown, grown, grown], np.float32)
        polygons = [geometry.transform_points(word_polygon(box, bend), matrix) for box in boxes]
        region = scene[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]]
        seen = self._view(layers, matrix, scale * fit, size)
        ignore = self._paint(region, seen, polygons, height * fit, camera, rng)
        return DrawnBlock([polygon + corner.astype(np.float32) for polygon in polygons], flat.words, ignore, flat.lines)

    def _write(self, height: float, rng: np.random.Generator) -> tuple[FlatBlock, float]:
        """Text whose capitals are `height` pixels high after scaling by the second result."""
        kind = rng.random()
        if kind < 0.38:
            counts = [1]
        elif kind < 0.66:
            counts = [int(rng.integers(2, 5))]
        else:
            counts = [int(rng.integers(1, 5)) for _ in range(rng.integers(2, 6 if height < 24 else 4))]
        size = height / _CAPITAL
        face = int(rng.integers(len(self.fonts)))
        # Small letters are drawn larger and shrunk: hinted ones would be sharper than any photographed ones.
        fonts = [self.fonts.get(face, size if size > 40 else 1.6 * size)]
        for _ in counts[1:]:
            same = rng.random() < 0.7
            fonts.append(fonts[-1] if same else self.fonts.get(face, fonts[0].size * float(rng.uniform(0.45, 1.0))))
        lines = [self.words.line(rng, count) for count in counts]
        if self.fonts.is_unicase(face):
            lines = [[word.upper() if self.words.accepts(word.upper()) else word for word in line] for line in lines]
        spacing = Spacing(
            align=float(rng.choice([0.0, 0.5, 1.0], p=[0.5, 0.42, 0.08])),
            leading=float(rng.uniform(1.0, 1.6)),
            word_gap=float(rng.uniform(0.22, 0.6)),
            tracking=float(rng.uniform(0.03, 0.3)) if rng.random() < 0.12 else 0.0,
            margin=float(rng.uniform(0.15, 0.8)),
        )
        return lay_out(lines, fonts, spacing), size / fonts[0].size

    def _layers(self, flat: FlatBlock, scale: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Coverage (H, W, 4) uint8 by ink, outline, board and frame; and by how many pixels the outline grows words."""
        import cv2

        height, width = flat.ink.shape
        layers = np.zeros((height, width, 4), np.uint8)
        layers[..., _INK] = flat.ink
        grown = 0
        if len(flat.boxes) and rng.random() < self.style.outline:
            letters = float((flat.boxes[:, 3] - flat.boxes[:, 1]).max())
            grown = max(1, round(letters * float(rng.uniform(0.03, 0.1))))
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1, 2 * grown + 1))
            layers[..., _OUTLINE] = cv2.dilate(flat.ink, disc)
        if rng.random() < self.style.board:
            layers[1:-1, 1:-1, _BOARD] = 255
            if rng.random() < 0.3:
                line = max(1, round(float(rng.uniform(1.0, 3.0)) / scale))
                layers[line : 2 * line, line:-line, _FRAME] = layers[-2 * line : -line, line:-line, _FRAME] = 255
                layers[line:-line, line : 2 * line, _FRAME] = layers[line:-line, -2 * line : -line, _FRAME] = 255
        return layers, grown

    def _choose_bend(self, flat: FlatBlock, rng: np.random.Generator) -> Bend | None:
        height, width = flat.ink.shape
        single = len(flat.words) > 0 and flat.lines[-1] == 0
        if not single or width < 3 * height or rng.random() >= self.style.bend:
            return None
        radius = width / float(rng.uniform(0.4, 2.2)) * (1 if rng.random() < 0.7 else -1)
        # A tighter circle would fold the inner side of the letters.
        return Bend(width / 2, height / 2, radius) if abs(radius) > 1.2 * height else None

    def _choose_view(
        self, width: int, height: int, scale: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The (3, 3) projection of a block's layers, and where their corners (4, 2) come to lie, starting at 0."""
        steep = rng.random() < self.style.steep
        matrix = view_matrix(
            width,
            height,
            scale,
            yaw=float(np.clip(rng.normal(0, 0.4), -1.0, 1.0)),
            pitch=float(np.clip(rng.normal(0, 0.2), -0.6, 0.6)),
            roll=float(rng.uniform(-np.pi / 2, np.pi / 2)) if steep else float(rng.normal(0, 0.08)),
            distance=float(rng.uniform(0.9, 3.0)),
        )
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
        low = geometry.transform_points(corners, matrix).min(axis=0)
        matrix = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ matrix
        return matrix, geometry.transform_points(corners, matrix)

    def _view(self, layers: np.ndarray, matrix: np.ndarray, scale: float, size: np.ndarray) -> np.ndarray:
        """The layers as the camera sees them, (h, w, 4) uint8."""
        import cv2

        if scale < 0.85:
            layers = cv2.GaussianBlur(layers, (0, 0), 0.4 / scale)
        return cv2.warpPerspective(layers, matrix, size.tolist(), flags=cv2.INTER_LINEAR)

    def _paint(
        self,
        region: np.ndarray,
        layers: np.ndarray,
        polygons: list[np.ndarray],
        height: float,
        camera: Camera,
        rng: np.random.Generator,
    ) -> list[bool]:
        """Paint the layers (h, w, 4) onto `region` (h, w, 3), in place; which of the words cannot be read."""
        import cv2

        blur = height * float(rng.uniform(0.03, 0.12)) if rng.random() < 0.2 else float(rng.uniform(0.3, 0.7))
        coverage = cv2.GaussianBlur(layers, (0, 0), max(blur, 0.3)).astype(np.float32) / 255.0
        named = dict(zip(("ink", "outline", "board", "frame"), cv2.split(coverage), strict=True))
        paint = self._choose_paint(region, layers, rng)
        if rng.random() < self.style.shadow:
            shift = float(rng.uniform(0.04, 0.12)) * height * np.array([rng.choice([-1, 1]), 1])
            move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
            soft = cv2.GaussianBlur(named["ink"], (0, 0), max(0.5, 0.04 * height))
            named["shadow"] = cv2.warpAffine(soft, move, soft.shape[::-1])
            paint.shadow = np.full(3, float(rng.uniform(0, 50)), np.float32)
        elif rng.random() < self.style.glow:
            named["shadow"] = np.minimum(2 * cv2.GaussianBlur(named["ink"], (0, 0), max(1.0, 0.2 * height)), 1.0)
            paint.shadow = choose_colour(rng, paint.ink, 80.0)
        before, after = paint_layers(region, named, paint)
        region[...] = np.clip(after, 0, 255)
        spread = float(np.hypot(camera.spread, blur))
        legibility = self.style.legibility
        return [not legibility.accepts(before, after, polygon, spread, camera.noise) for polygon in polygons]

    def _choose_paint(self, region: np.ndarray, layers: np.ndarray, rng: np.random.Generator) -> Paint:
        faint = rng.random() < self.style.faint
        contrast = float(rng.uniform(14, 50)) if faint else float(rng.uniform(60, 190))
        board = street_colour(rng) if layers[..., _BOARD].any() else None
        ink = choose_colour(rng, region.reshape(-1, 3).mean(axis=0) if board is None else board, contrast)
        return Paint(
            ink=ink,
            outline=choose_colour(rng, ink, float(rng.uniform(60, 200))) if layers[..., _OUTLINE].any() else None,
            board=board,
            frame=ink if rng.random() < 0.6 else street_colour(rng),
            opacity=float(rng.uniform(0.8, 1.0)),
            lighting=float(rng.uniform(0.1, 0.8)),
        )
