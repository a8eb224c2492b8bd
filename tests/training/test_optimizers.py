"""Optimizers of the papers."""

import copy

import pytest
import torch
from tiny_settings import SMALLEST
from torch import nn

from transformers_tcm import TCMConfig, TCMForTextDetection
from transformers_tcm.training import TCMTrainingArguments, create_optimizer, create_scheduler
from transformers_tcm.training.optimizers import OPTIMIZERS, Ranger


def minimised(optimizer_class, steps: int = 150, **settings: float) -> float:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    inputs, wanted = torch.randn(16, 4), torch.randn(16, 3)
    optimizer = optimizer_class(layer.parameters(), **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (layer(inputs) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_ranger_without_looking_ahead_is_radam_on_centralised_gradients() -> None:
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    ranger = Ranger(ours.parameters(), lr=0.1, lookahead_steps=10**6)
    radam = torch.optim.RAdam(theirs.parameters(), lr=0.1, betas=(0.95, 0.999), eps=1e-5)
    for seed in range(8):
        gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        ours.weight.grad, theirs.weight.grad = gradient.clone(), gradient - gradient.mean(dim=1, keepdim=True)
        ours.bias.grad, theirs.bias.grad = gradient[:, 0].clone(), gradient[:, 0].clone()
        ranger.step()
        radam.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_looking_ahead_goes_half_of_the_way_every_sixth_step() -> None:
    start = torch.tensor([1.0])
    plain, ahead = (nn.Parameter(start.clone()) for _ in range(2))
    optimizers = Ranger([plain], lr=0.1, lookahead_steps=10**6), Ranger([ahead], lr=0.1)
    for step in range(1, 7):
        for parameter, optimizer in zip((plain, ahead), optimizers, strict=True):
            parameter.grad = torch.ones(1)
            optimizer.step()
        expected = plain if step < 6 else start + (plain - start) / 2
        torch.testing.assert_close(ahead.data, expected.data)


def test_ranger_goes_on_from_its_stored_state() -> None:
    layer = nn.Linear(4, 3)
    optimizer = Ranger(layer.parameters(), lr=0.1)

    def steps(layer: nn.Module, optimizer: Ranger, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            layer(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()

    steps(layer, optimizer, 4)
    again = copy.deepcopy(layer)
    restored = Ranger(again.parameters(), lr=0.5)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(layer, optimizer, 5)
    steps(again, restored, 5)
    assert torch.equal(layer.weight, again.weight)


@pytest.mark.parametrize(("name", "rate"), [("adam", 0.05), ("ranger", 0.05), ("sgd", 0.05)])
def test_every_optimizer_minimises(name: str, rate: float) -> None:
    assert minimised(OPTIMIZERS[name], lr=rate) < 0.7 * minimised(OPTIMIZERS[name], steps=1, lr=rate)


def test_arguments_name_the_optimizer_and_the_steps_of_the_rate(tmp_path) -> None:
    model = TCMForTextDetection(TCMConfig(**SMALLEST, clip_pretrained=True))
    settings = {"output_dir": str(tmp_path), "use_cpu": True, "max_steps": 10, "learning_rate": 0.1}
    arguments = TCMTrainingArguments(**settings, optimizer="ranger", lr_milestones=[0.5, 0.8], warmup_steps=2)
    optimizer = create_optimizer(model, arguments)
    assert isinstance(optimizer, Ranger)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.01, 0.1])
    scheduler = create_scheduler(optimizer, arguments)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001])
    with pytest.raises(ValueError, match="no optimizer 'lion' here; there are adam, ranger, sgd"):
        TCMTrainingArguments(**settings, optimizer="lion")
    with pytest.raises(ValueError, match="--lr_milestones are shares of the steps"):
        TCMTrainingArguments(**settings, lr_milestones=[100])
