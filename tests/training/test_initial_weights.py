"""Weights of one detector as the start of another that has more parts."""

from pathlib import Path

import pytest
import torch
from tiny_settings import SMALLEST

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting
from transformers_tcm.training import load_initial_weights


def detector(seed: int = 0, **settings: object) -> TCMForTextDetection:
    torch.manual_seed(seed)
    return TCMForTextDetection(TCMConfig(**{**SMALLEST, **settings})).eval()


def prob_map(model: TCMForTextDetection) -> torch.Tensor:
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(pixels).head_output.prob_map


@pytest.mark.parametrize("variant", ["fasttcm", "tcm", "none"])
def test_the_same_is_found_at_first(tmp_path: Path, variant: str) -> None:
    plain = detector(prompting="none")
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as training leaves them
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    plain.save_pretrained(tmp_path)
    model = detector(seed=1, prompting=variant)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not torch.allclose(prob_map(model), prob_map(plain), atol=1e-4)

    missing = load_initial_weights(model, tmp_path)

    torch.testing.assert_close(prob_map(model), prob_map(plain))
    assert missing == [name for name in before if name not in plain.state_dict()]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in missing)
    assert (missing == []) == (variant == "none")


def test_the_score_map_is_learned_from_there(tmp_path: Path) -> None:
    detector(prompting="none").save_pretrained(tmp_path)
    model = detector(seed=1)
    load_initial_weights(model, tmp_path)
    lateral = model.head.neck.lateral[3].weight  # (16, 128 + 1, 1, 1)
    assert lateral[:, -1].abs().sum() == 0
    model.train()(torch.randn(1, 3, 64, 96)).head_output.prob_map.sum().backward()
    assert lateral.grad[:, -1].abs().sum() > 0


def test_a_spotter_starts_from_a_detector(tmp_path: Path) -> None:
    plain = detector(prompting="none")
    plain.save_pretrained(tmp_path)
    spotter = TCMForTextSpotting(TCMConfig(**SMALLEST, recognizer={})).eval()
    missing = load_initial_weights(spotter, tmp_path)
    torch.testing.assert_close(prob_map(spotter), prob_map(plain))
    assert any(name.startswith("recognizer.") for name in missing)


def test_other_sizes_are_named(tmp_path: Path) -> None:
    detector(prompting="none").save_pretrained(tmp_path)
    wider = detector(head_config={"neck_channels": 32, "hidden_channels": 4})
    with pytest.raises(ValueError, match=r"head\.neck\.lateral\.0\.weight is \(16, 16, 1, 1\) in the checkpoint"):
        load_initial_weights(wider, tmp_path)
    # Fewer channels than in the checkpoint: nothing is cut off.
    detector().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(16, 129, 1, 1\) in the checkpoint and \(16, 128, 1, 1\) in the model"):
        load_initial_weights(detector(prompting="none"), tmp_path)
