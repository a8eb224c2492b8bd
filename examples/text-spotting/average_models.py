"""Average the weights of models that were trained on from a common one (model soups, Wortsman et al., ICML 2022).

python average_models.py runs/8 runs/7 runs/6 --shares 0.65 0.2 0.15 --output runs/9
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModel

from transformers_tcm import TCMImageProcessor


def average(folders: list[Path], shares: list[float]) -> torch.nn.Module:
    """The first model with the weighted mean of all models' weights; whole numbers stay those of the first.

    Raises:
        ValueError: if there is not one positive share for each model, or a model has other weights than the first.
    """
    if len(shares) != len(folders) or min(shares) <= 0:
        raise ValueError(f"expected a positive share for each of {len(folders)} models, got {shares}")
    models = [AutoModel.from_pretrained(folder, dtype="float32") for folder in folders]
    states = [model.state_dict() for model in models]
    shapes = [{name: tuple(weight.shape) for name, weight in state.items()} for state in states]
    for folder, others in zip(folders, shapes, strict=True):
        if different := sorted(set(shapes[0].items()) ^ set(others.items())):
            raise ValueError(f"{folder} has other weights than {folders[0]}, such as {different[0][0]}")
    mean = {
        name: sum(state[name] * (share / sum(shares)) for state, share in zip(states, shares, strict=True))
        for name, weight in states[0].items()
        if weight.is_floating_point()
    }
    models[0].load_state_dict({**states[0], **mean})
    return models[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="folders of the models; settings come from the first")
    parser.add_argument("--shares", type=float, nargs="+", required=True, help="of each model in the mean")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    average(arguments.models, arguments.shares).save_pretrained(arguments.output)
    TCMImageProcessor.from_pretrained(arguments.models[0]).save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
