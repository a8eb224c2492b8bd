"""Models and their auto classes."""

from .tcm.backends import torchvision_works

__all__: list[str] = []

# transformers cannot import its image processors beside a broken torchvision: the warning that says so comes first.
torchvision_works()
