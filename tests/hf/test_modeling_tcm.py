"""The common model tests of transformers on `TCMModel` and the models of each task."""

import unittest

import numpy as np
import torch
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.testing_utils import torch_device

from transformers_tcm.instances import OrientedInstances, TextInstances
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.heads import head_class
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection, TCMModel
from transformers_tcm.models.tcm.modeling_tcm_oriented import TCMForOrientedObjectDetection
from transformers_tcm.models.tcm.modeling_tcm_spotting import TCMForTextSpotting
from transformers_tcm.models.tcm.recognition.sampling import quads_to_bezier

from ...test_configuration_common import ConfigTester
from ...test_modeling_common import ModelTesterMixin, floats_tensor

# The mixins look up base models in this table, which `AutoModel.register` does not fill.
MODEL_MAPPING_NAMES["tcm"] = "TCMModel"


class TCMModelTester:
    """A model of 0.6 M parameters and inputs for it."""

    batch_size = 3
    image_size = 64
    is_training = True
    num_hidden_layers = 1
    # `hidden_states` are the maps of the stem (stride 4) and the four stages; the tests look at the first one's last
    # two dimensions.
    expected_num_hidden_layers = 5
    seq_length = hidden_size = image_size // 4
    settings: dict = {}
    prompts: dict = {"prompts": ["some text"], "prompt_token_ids": [[62, 5, 7, 63]]}
    head_settings: dict = {}

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        return TCMConfig(
            vision_config={
                "width": 8,
                "depths": [1, 1, 1, 1],
                "projection_dim": 32,
                "num_attention_heads": 4,
                "positional_grid": 3,
            },
            text_config={
                "vocab_size": 64,
                "hidden_size": 32,
                "intermediate_size": 37,
                "projection_dim": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "bos_token_id": 62,
                "eos_token_id": 63,
                "pad_token_id": 63,
            },
            **self.prompts,
            decoder_hidden_size=32,
            decoder_num_layers=1,
            **{"head_config": {"neck_channels": 16, "hidden_channels": 8, **self.head_settings}, **self.settings},
        )

    def prepare_config_and_inputs_for_common(self):
        size = self.image_size
        pixel_mask = torch.ones(self.batch_size, size, size, dtype=torch.long, device=torch_device)
        pixel_mask[0, :, size // 2 :] = 0  # one image is narrower than the others
        return self.get_config(), {
            "pixel_values": floats_tensor([self.batch_size, 3, size, size]),
            "pixel_mask": pixel_mask,
        }

    def labels(self, config):
        """One word in each image, with the target maps of the head, and for spotters what it says."""
        word = TextInstances([np.array([[8, 12], [56, 12], [56, 40], [8, 40]])], texts=["ab"])
        head = head_class(config.head_type)
        size = (self.image_size, self.image_size)
        targets = head.targets(word, size, size, head.config_class(**config.head_config))
        labels = {name: torch.from_numpy(np.stack([target] * self.batch_size)) for name, target in targets.items()}
        if config.recognizer is not None:
            words = quads_to_bezier(torch.from_numpy(word.polygons[0]))[None]
            labels["control_points"] = words.repeat(self.batch_size, 1, 1)
            labels["char_ids"] = torch.tensor([[ord("a"), ord("b")]] * self.batch_size)
            labels["ignore"] = torch.zeros(self.batch_size, dtype=torch.bool)
            labels["word_counts"] = torch.ones(self.batch_size, dtype=torch.int64)
        return {name: tensor.to(torch_device) for name, tensor in labels.items()}


class FusedTCMModelTester(TCMModelTester):
    """As published: the text embedding is a buffer, there is no text tower."""

    settings = {"fused": True}


class ImagePromptedTCMModelTester(TCMModelTester):
    """The CVPR variant, with what else may be switched on."""

    settings = {"prompting": "tcm", "learnable_logit_scale": True}
    head_settings = {"adaptive_scale_fusion": True}


class UnpromptedTCMModelTester(TCMModelTester):
    """The baseline of ablations, without a score map."""

    settings = {"prompting": "none"}


class TCMSpotterTester(TCMModelTester):
    """With a recogniser, whose attention decoder is the one with more kinds of weights."""

    settings = {
        "recognizer": {
            "charset": "abc",
            "decoder": "attention",
            "crop_size": [8, 32],
            "channels": [8, 8],
            "num_blocks": [0, 1],
            "hidden_size": 16,
            "num_layers": 1,
            "num_heads": 2,
            "max_length": 4,
            "dropout": 0.0,
            "jitter": 0.0,
        }
    }

    def prepare_config_and_inputs_for_common(self):
        config, inputs = super().prepare_config_and_inputs_for_common()
        # Random weights find nothing at the usual thresholds; with these all of each image is one word.
        return config, {**inputs, "decoding": {"threshold": 0.0, "box_threshold": 0.0}}


class TCMLanguageModelTester(TCMSpotterTester):
    """With a recogniser that knows how words are spelled."""

    settings = {
        "recognizer": {
            **TCMSpotterTester.settings["recognizer"],
            "decoder": "ctc",
            "language_model": {"context": 2, "embedding_size": 4, "hidden_size": 8},
        }
    }


class TESTRModelTester(TCMModelTester):
    """A head that reads what it finds."""

    settings = {
        "head_type": "testr",
        "head_config": {
            "hidden_size": 32,
            "num_encoder_layers": 1,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "mlp_size": 37,
            "num_queries": 5,
            "dropout": 0.0,
            "charset": "abc",
        },
    }

    def prepare_config_and_inputs_for_common(self):
        config, inputs = super().prepare_config_and_inputs_for_common()
        return config, {**inputs, "decoding": {"box_threshold": 0.0, "min_size": 0}}


class DeepSoloModelTester(TESTRModelTester):
    """Another, with a language model."""

    settings = {
        "head_type": "deepsolo",
        "head_config": {
            **TESTRModelTester.settings["head_config"],
            "num_points": 6,
            "language_model": {"context": 2, "embedding_size": 4, "hidden_size": 8},
        },
    }


class ABINetTester(TCMSpotterTester):
    """ABINet++'s recogniser."""

    settings = {
        "recognizer": {
            **TCMSpotterTester.settings["recognizer"],
            "decoder": "abinet",
            "attention_channels": 8,
            "attention_mlp_size": 8,
            "language_hidden_size": 16,
            "language_layers": 1,
            "language_heads": 2,
            "language_mlp_size": 8,
            "language_dropout": 0.0,
        }
    }


class MaskTextSpotterTester(TCMSpotterTester):
    """Mask TextSpotter v3: segmentation proposals and masked reading."""

    settings = {
        "head_type": "spn",
        "recognizer": {
            "charset": "abc",
            "decoder": "masked",
            "crop_size": [8, 16],
            "channels": [8],
            "hidden_size": 16,
            "max_length": 4,
            "jitter": 0.0,
        },
    }


class TCMOrientedTester(TCMModelTester):
    """With the head of oriented objects that has most kinds of weights, and two classes."""

    settings = {
        "head_type": "rotated_fcos",
        "head_config": {"channels": 8, "num_convs": 1, "num_groups": 4},
        "id2label": {0: "ship", 1: "small-vehicle"},
    }
    prompts = {"prompt_token_ids": [[62, 5, 63, 63], [62, 6, 7, 63]]}

    def labels(self, config):
        """One object in each image."""
        ship = OrientedInstances([np.array([[8, 12], [56, 12], [56, 40], [8, 40]])], labels=[0])
        size = (self.image_size, self.image_size)
        targets = head_class(config.head_type).targets(ship, size, size, config.head_settings)
        return {
            name: torch.from_numpy(np.stack([target] * self.batch_size)).to(torch_device)
            for name, target in targets.items()
        }


class TCMModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (TCMModel, TCMForTextDetection)
    model_tester_class = TCMModelTester
    additional_model_inputs = ["pixel_mask"]
    test_resize_embeddings = False  # the vocabulary belongs to CLIP's text tower
    # Eager attention alone gives weights, and other implementations refuse: tests/models/tcm/test_conventions.py.
    has_attentions = False
    # Not to skip this test for want of a copyright year in our sources.
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = self.model_tester_class(self)
        self.config_tester = ConfigTester(
            self, config_class=TCMConfig, has_text_modality=False, common_properties=["projection_dim"]
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class)
        if return_labels and model_class is not TCMModel:
            inputs["labels"] = self.model_tester.labels(self.model_tester.get_config())
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_retain_grad_hidden_states_attentions(self):
        # The inherited test wants a tensor as first output, and attention weights.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        outputs = TCMModel(config).to(torch_device)(**inputs, output_hidden_states=True)
        outputs.hidden_states[0].retain_grad()
        (outputs.feature_maps[-1] if outputs.score_map is None else outputs.score_map).sum().backward()
        self.assertGreater(outputs.hidden_states[0].grad.abs().sum(), 0)

    @unittest.skip("TCM returns no attention weights: those that matter are the score map")
    def test_attention_outputs(self):
        pass

    @unittest.skip("asks for attention weights of any implementation, which only eager attention gives")
    def test_capture_outputs_decorator(self):
        pass

    # Packed projections are read and saved in tests/models/tcm/test_modeling_tcm_spotting.py.
    @unittest.skip("looks for packed projections under the names that the renaming before them gives")
    def test_reverse_loading_mapping(self):
        pass

    @unittest.skip("the only layers recorded by hooks are CLIP's text tower's, whose states are not returned")
    def test_can_capture_specific_layers_hidden_states(self):
        pass

    @unittest.skip("the input is an image, the prompt's tokens are part of the configuration")
    def test_model_get_set_embeddings(self):
        pass


class FusedTCMModelTest(TCMModelTest):
    model_tester_class = FusedTCMModelTester


class ImagePromptedTCMModelTest(TCMModelTest):
    model_tester_class = ImagePromptedTCMModelTester


class UnpromptedTCMModelTest(TCMModelTest):
    model_tester_class = UnpromptedTCMModelTester


class TCMOrientedTest(TCMModelTest):
    all_model_classes = (TCMForOrientedObjectDetection,)
    model_tester_class = TCMOrientedTester


class TCMSpotterTest(TCMModelTest):
    all_model_classes = (TCMForTextSpotting,)
    model_tester_class = TCMSpotterTester


class TCMLanguageModelTest(TCMSpotterTest):
    model_tester_class = TCMLanguageModelTester


class TESTRModelTest(TCMModelTest):
    all_model_classes = (TCMForTextSpotting,)
    model_tester_class = TESTRModelTester

    @unittest.skip("a new head has all points of a query at one place, where nothing is, and no tensor may be empty")
    def test_model_outputs_equivalence(self):
        pass


class DeepSoloModelTest(TESTRModelTest):
    model_tester_class = DeepSoloModelTester


class ABINetTest(TCMSpotterTest):
    model_tester_class = ABINetTester


class MaskTextSpotterTest(TCMSpotterTest):
    model_tester_class = MaskTextSpotterTester
