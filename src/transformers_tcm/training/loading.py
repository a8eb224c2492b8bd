"""Loaders of training data for several processes."""

from typing import Any

from torch.utils.data import DataLoader

from ..data.datasets import StreamedTextCrops

__all__ = ["prepare_training_loader"]


def prepare_training_loader(loader: DataLoader[Any], accelerator: Any) -> DataLoader[Any]:
    """What `accelerator.prepare` makes of a loader, but for a stream a loader of each process's own part.

    Accelerate would let the first process read the whole stream and cut its batches to pieces, which those of the
    collator, with labels of all images in one tensor, do not allow.

    Args:
        loader: of training data; its batch size is that of a process.
        accelerator: an `Accelerator`.
    """
    prepared: DataLoader[Any]
    if isinstance(loader.dataset, StreamedTextCrops):
        from accelerate.data_loader import prepare_data_loader

        loader.dataset.set_process(accelerator.process_index, accelerator.num_processes)
        # As in one process, because the dataset has been split already.
        settings = {"num_processes": 1, "process_index": 0, "put_on_device": True, "dispatch_batches": False}
        prepared = prepare_data_loader(loader, accelerator.device, **settings)
    else:
        prepared = accelerator.prepare(loader)
    return prepared
