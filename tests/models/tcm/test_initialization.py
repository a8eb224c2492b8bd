"""`_init_weights` reaches every module, also those that transformers leaves out in classes that are not its own."""

import torch
from tiny_settings import LEARNING

from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.modeling_clip_resnet import TCMBottleneck
from transformers_tcm.models.tcm.modeling_tcm import TCMModel


def test_residual_blocks_start_as_the_identity():
    blocks = [module for module in TCMModel(TCMConfig(**LEARNING)).modules() if isinstance(module, TCMBottleneck)]
    assert len(blocks) == 4
    assert all(not block.expand[1].weight.any() for block in blocks)


def test_text_tower_missing_from_a_checkpoint_starts_as_in_clip():
    model = TCMModel.from_pretrained(None, config=TCMConfig(**LEARNING), state_dict={})
    layer = model.text_encoder.text_model.encoder.layers[0]
    expected = 16**-0.5  # CLIP: width ** -0.5, where transformers' default would be 0.02
    torch.testing.assert_close(layer.self_attn.out_proj.weight.std().item(), expected, rtol=0.2, atol=0)
