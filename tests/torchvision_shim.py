"""Pytest plugin (`-p torchvision_shim`): torchvision from the folder TCM_TORCHVISION_DIR, beside a torch without it.

The wheel on PyPI is built for CUDA and does not import beside a CPU build of torch, because the schemas of two compiled
operators are missing. Declared by hand, `torchvision.transforms.v2`, which is plain torch, works fully.
"""

import os
import sys

import torch

sys.path.append(os.environ["TCM_TORCHVISION_DIR"])
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
