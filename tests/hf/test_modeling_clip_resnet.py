"""The common backbone tests of transformers on the CLIP ResNet."""

import unittest

from transformers_tcm.models.tcm.configuration_tcm import TCMVisionConfig
from transformers_tcm.models.tcm.modeling_clip_resnet import TCMVisionBackbone

from ...test_backbone_common import BackboneTesterMixin
from ...test_modeling_common import floats_tensor


class TCMVisionBackboneTester:
    """A ResNet of 0.3 M parameters and inputs for it."""

    batch_size = 2
    image_size = 64

    def prepare_config_and_inputs_for_common(self):
        config = TCMVisionConfig(
            width=8, depths=[1, 1, 1, 1], projection_dim=32, num_attention_heads=4, positional_grid=3
        )
        return config, {"pixel_values": floats_tensor([self.batch_size, 3, self.image_size, self.image_size])}


class TCMVisionBackboneTest(BackboneTesterMixin, unittest.TestCase):
    all_model_classes = (TCMVisionBackbone,)
    config_class = TCMVisionConfig
    has_attentions = False  # the attention pool comes after the stages and keeps no weights

    def setUp(self):
        self.model_tester = TCMVisionBackboneTester()
