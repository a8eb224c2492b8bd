"""Tiny checkpoints in the names of OpenAI's CLIP, written down independently of the conversion."""

from collections.abc import Callable

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

StateDict = dict[str, torch.Tensor]

WIDTH, DEPTHS, JOINT, GRID = 8, (1, 2, 1, 1), 32, 3
TEXT_WIDTH, TEXT_LAYERS, POSITIONS, VOCABULARY = 64, 2, 20, 49408


def _batch_norm(name: str, channels: int) -> StateDict:
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels),
        f"{name}.running_mean": torch.randn(channels),
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def _image_encoder() -> StateDict:
    tensors: StateDict = {}
    for number, (inputs, outputs) in enumerate(((3, WIDTH // 2), (WIDTH // 2, WIDTH // 2), (WIDTH // 2, WIDTH)), 1):
        tensors[f"visual.conv{number}.weight"] = torch.randn(outputs, inputs, 3, 3)
        tensors |= _batch_norm(f"visual.bn{number}", outputs)
    inputs = WIDTH
    for layer, depth in enumerate(DEPTHS):
        channels = WIDTH * 2**layer
        for block in range(depth):
            name = f"visual.layer{layer + 1}.{block}"
            shapes = [(channels, inputs, 1, 1), (channels, channels, 3, 3), (4 * channels, channels, 1, 1)]
            for number, shape in enumerate(shapes, 1):
                tensors[f"{name}.conv{number}.weight"] = torch.randn(shape) * 0.1
                tensors |= _batch_norm(f"{name}.bn{number}", shape[0])
            if block == 0:
                tensors[f"{name}.downsample.0.weight"] = torch.randn(4 * channels, inputs, 1, 1) * 0.1
                tensors |= _batch_norm(f"{name}.downsample.1", 4 * channels)
            inputs = 4 * channels
    tensors["visual.attnpool.positional_embedding"] = torch.randn(GRID**2 + 1, inputs)
    for name, outputs in (("q_proj", inputs), ("k_proj", inputs), ("v_proj", inputs), ("c_proj", JOINT)):
        tensors[f"visual.attnpool.{name}.weight"] = torch.randn(outputs, inputs) * 0.05
        tensors[f"visual.attnpool.{name}.bias"] = torch.randn(outputs)
    return tensors


def _text_tower(model: CLIPTextModelWithProjection) -> StateDict:
    theirs = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    tensors = {
        "token_embedding.weight": theirs["embeddings.token_embedding.weight"],
        "positional_embedding": theirs["embeddings.position_embedding.weight"],
        "ln_final.weight": theirs["final_layer_norm.weight"],
        "ln_final.bias": theirs["final_layer_norm.bias"],
        "text_projection": theirs["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6),
    }
    for layer in range(TEXT_LAYERS):
        here, there = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for leaf in ("weight", "bias"):
            projections = [theirs[f"{here}.self_attn.{name}_proj.{leaf}"] for name in "qkv"]
            tensors[f"{there}.attn.in_proj_{leaf}"] = torch.cat(projections)
            tensors[f"{there}.attn.out_proj.{leaf}"] = theirs[f"{here}.self_attn.out_proj.{leaf}"]
            tensors[f"{there}.ln_1.{leaf}"] = theirs[f"{here}.layer_norm1.{leaf}"]
            tensors[f"{there}.ln_2.{leaf}"] = theirs[f"{here}.layer_norm2.{leaf}"]
            tensors[f"{there}.mlp.c_fc.{leaf}"] = theirs[f"{here}.mlp.fc1.{leaf}"]
            tensors[f"{there}.mlp.c_proj.{leaf}"] = theirs[f"{here}.mlp.fc2.{leaf}"]
    return tensors


@pytest.fixture(scope="session")
def text_tower() -> CLIPTextModelWithProjection:
    """A text tower of transformers itself, every parameter random."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=1,
        max_position_embeddings=POSITIONS,
        projection_dim=JOINT,
        vocab_size=VOCABULARY,
        eos_token_id=VOCABULARY - 1,
    )
    model = CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return model


@pytest.fixture(scope="session")
def clip_tensors(text_tower: CLIPTextModelWithProjection) -> StateDict:
    torch.manual_seed(0)
    return _image_encoder() | {name: tensor.clone() for name, tensor in _text_tower(text_tower).items()}


@pytest.fixture
def clip_state_dict(clip_tensors: StateDict) -> StateDict:
    """A CLIP checkpoint that a test may change."""
    return dict(clip_tensors)


@pytest.fixture(scope="session")
def torchscript() -> Callable[[StateDict], torch.jit.ScriptModule]:
    """A scripted module that has these tensors as its own, as OpenAI's archive does."""

    def build(tensors: StateDict) -> torch.jit.ScriptModule:
        root = torch.nn.Module()
        for name, tensor in tensors.items():
            *path, leaf = name.split(".")
            module = root
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, torch.nn.Module())
                module = module.get_submodule(part)
            module.register_buffer(leaf, tensor)
        return torch.jit.script(root)

    return build
