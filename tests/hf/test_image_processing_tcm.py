"""The common image processor tests of transformers on the backends that work here."""

import unittest

import numpy as np
from PIL import Image

from transformers_tcm.models.tcm.backends import torchvision_works
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.image_processing_tcm import TCMImageProcessor

from ...test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin


class TCMImageProcessingTester(ImageProcessingTester):
    """Small images, so that both limits of `size` decide for some of them."""

    def __init__(self, parent):
        super().__init__(
            parent,
            batch_size=3,
            size={"shortest_edge": 40, "longest_edge": 96},
            size_divisor=32,
            do_resize=True,
            do_normalize=True,
            image_mean=[0.5, 0.4, 0.3],
            image_std=[0.2, 0.3, 0.4],
            box_threshold=0.7,
        )

    def _get_image_processing_classes(self):
        # The inherited method reads a table of transformers' own models.
        backends = {"pil": TCMImageProcessorPil}
        return {**backends, "torchvision": TCMImageProcessor} if torchvision_works() else backends

    def expected_output_image_shape(self, images):
        padded = []
        for image in images:
            if isinstance(image, Image.Image):
                size = image.size[::-1]
            else:
                size = image.shape[:2] if isinstance(image, np.ndarray) else image.shape[1:]
            factor = min(40 / min(size), 96 / max(size))
            padded.append([-(-round(side * factor) // 32) * 32 for side in size])
        return self.num_channels, *(max(sides) for sides in zip(*padded, strict=True))


class TCMImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = TCMImageProcessingTester

    @unittest.skipUnless(torchvision_works(), "there is a torchvision backend, but no torchvision to run it")
    def test_new_models_require_torchvision_backend(self):
        super().test_new_models_require_torchvision_backend()

    @unittest.skip("downloads a photo; `test_backends_equivalence_batched` makes the same comparison on random images")
    def test_backends_equivalence(self):
        pass
