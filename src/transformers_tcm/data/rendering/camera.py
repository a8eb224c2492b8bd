"""What a hand-held camera does to a scene: blur, small sensors, noise, exposure, JPEG."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["Camera"]


@dataclass
class Camera:
    """One photograph's degradation.

    Args:
        blur: sigma of the focus blur in pixels.
        motion: (length in pixels, angle in radians) of a shake.
        shrink: the image is taken at this fraction of its size and enlarged.
        noise: sigma in grey levels.
        gain, gamma, tint: exposure; tint is (3,).
        quality: of JPEG, `None` for no compression.
    """

    blur: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)
    shrink: float = 1.0
    noise: float = 0.0
    gain: float = 1.0
    gamma: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    quality: int | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Camera":
        """A random one; the default `Camera()` changes nothing."""
        return cls(
            blur=float(rng.choice([0.0, rng.uniform(0.3, 1.0), rng.uniform(0.8, 1.8)], p=[0.45, 0.42, 0.13])),
            motion=(float(rng.uniform(2, 7)) if rng.random() < 0.12 else 0.0, float(rng.uniform(0, np.pi))),
            shrink=float(rng.uniform(0.5, 0.95)) if rng.random() < 0.25 else 1.0,
            noise=float(rng.exponential(3.0)) if rng.random() < 0.6 else 0.0,
            gain=float(np.exp(rng.normal(0, 0.18))),
            gamma=float(np.exp(rng.normal(0, 0.2))),
            tint=tuple((1 + rng.normal(0, 0.05, 3)).tolist()),
            quality=int(rng.integers(35, 96)),
        )

    @property
    def spread(self) -> float:
        """Sigma of all blur together in pixels."""
        return float(np.sqrt(self.blur**2 + (self.motion[0] / 3.5) ** 2 + (0.5 / self.shrink) ** 2))

    def take(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The photograph (H, W, 3) uint8 of a scene (H, W, 3) uint8."""
        import cv2

        height, width = image.shape[:2]
        if self.motion[0] > 0:
            image = cv2.filter2D(image, -1, _motion_kernel(*self.motion))
        if self.blur > 0:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.shrink < 1:
            small = (max(round(width * self.shrink), 1), max(round(height * self.shrink), 1))
            image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))
        image = cv2.LUT(image, self._exposure())
        if self.noise > 0:
            image = cv2.add(image, _noise(height, width, self.noise, rng), dtype=cv2.CV_8U)
        if self.quality is None:
            return image
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))

    def _exposure(self) -> np.ndarray:
        """(256, 1, 3) look-up table."""
        level = (np.arange(256)[:, None] / 255.0) ** self.gamma * self.gain * np.array(self.tint)
        return np.rint(np.clip(level, 0, 1) * 255).astype(np.uint8)[:, None]


def _motion_kernel(length: float, angle: float) -> np.ndarray:
    import cv2

    side = int(length) // 2 * 2 + 3
    middle = np.array([side // 2, side // 2])
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    kernel = np.zeros((side, side), np.float32)
    start, end = np.rint((middle - reach) * 16).astype(int), np.rint((middle + reach) * 16).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()


@lru_cache(1)
def _noise_tile() -> np.ndarray:
    """Standard noise in quarters of a sigma; cut out at random offsets, which is faster than drawing it each time."""
    return np.clip(np.random.default_rng(0).normal(0, 32, (768, 768, 3)), -127, 127).astype(np.int8)


def _noise(height: int, width: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    tile = _noise_tile()
    y, x = rng.integers(768, size=2)
    rows, columns = np.arange(y, y + height) % 768, np.arange(x, x + width) % 768
    return (tile[rows[:, None], columns] * np.float32(sigma / 32)).astype(np.int16)
