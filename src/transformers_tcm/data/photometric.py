"""Random changes of colour and sharpness that leave every pixel where it is."""

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

__all__ = ["PhotometricJitter"]

# ITU-R BT.601 luma, and two opposing colour axes that a turn of the hue mixes (the NTSC YIQ space).
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True)
class PhotometricJitter:
    """Colour jitter as one colour matrix, then sometimes blur, noise and JPEG artefacts.

    Args:
        brightness: largest offset, as a fraction of full scale (DBNet: 32 / 255).
        contrast: largest relative change of the contrast, around mid-grey.
        saturation: largest relative change of the saturation (DBNet: 0.5).
        hue: largest turn of the hue in degrees.
        grey_probability: share of images turned grey.
        invert_probability: share of images that become their own negative.
        blur_probability: share of images blurred, with a Gaussian of up to `blur_sigma` pixels.
        blur_sigma: largest standard deviation of the blur in pixels.
        noise_probability: share of images with added Gaussian noise of up to `noise_sigma`.
        noise_sigma: largest standard deviation of the noise in grey levels of 255.
        jpeg_probability: share of images compressed as JPEG.
        jpeg_quality: range of the JPEG quality, in [1, 100].
    """

    brightness: float = 32 / 255
    contrast: float = 0.3
    saturation: float = 0.5
    hue: float = 10.0
    grey_probability: float = 0.05
    invert_probability: float = 0.0
    blur_probability: float = 0.1
    blur_sigma: float = 1.5
    noise_probability: float = 0.1
    noise_sigma: float = 10.0
    jpeg_probability: float = 0.1
    jpeg_quality: tuple[int, int] = (30, 90)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change a (H, W, 3) uint8 RGB image; returns a new array of the same shape."""
        import cv2

        image = cv2.transform(image, self._draw_color_matrix(rng))
        if rng.random() < self.blur_probability:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, self.blur_sigma))
        if rng.random() < self.noise_probability:
            image = _add_noise(image, rng.uniform(0, self.noise_sigma), rng)
        if rng.random() < self.jpeg_probability:
            low, high = self.jpeg_quality
            image = _compress(image, int(rng.integers(low, high + 1)))
        return image

    def _draw_color_matrix(self, rng: np.random.Generator) -> np.ndarray:
        """All colour changes as one affine map (3, 4) of RGB in [0, 255], so that the pixels are touched once."""
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        # Drawn only where asked for: seeded data sets without negatives stay what they were.
        if self.invert_probability and rng.random() < self.invert_probability:
            contrast = -contrast
        grey = rng.random() < self.grey_probability
        saturation = 0.0 if grey else 1 + rng.uniform(-self.saturation, self.saturation)
        angle = np.deg2rad(rng.uniform(-self.hue, self.hue))
        cosine, sine = saturation * np.cos(angle), saturation * np.sin(angle)
        linear = contrast * _YIQ_TO_RGB @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ _RGB_TO_YIQ
        offset = 255 * rng.uniform(-self.brightness, self.brightness) + 127.5 * (1 - contrast)
        return np.column_stack([linear, np.full(3, offset)])


@cache
def _normal_quantiles() -> np.ndarray:
    """(256,) equally likely values of the standard normal distribution: random bytes index it, which is cheap."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((index + 0.5) / 256) for index in range(256)])


def _add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    import cv2

    table = np.rint(sigma * _normal_quantiles()).astype(np.int16)
    noise = cv2.LUT(np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape), table)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    # OpenCV takes the channels for BGR; both ways alike, they come back in their order.
    _, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR))
