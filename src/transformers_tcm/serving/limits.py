"""How much a service takes on."""

from dataclasses import dataclass

__all__ = ["ServiceLimits"]


@dataclass(frozen=True)
class ServiceLimits:
    """What a request may ask for, and how many of them at a time.

    Memory follows from them: requests that were accepted hold up to `queue` x `max_bytes`, the images of a batch three
    bytes a pixel each, once decoded.

    Args:
        max_bytes: the largest body of a request.
        max_pixels: width x height of the largest image, read from its head before it is decoded.
        queue: requests that are sent, wait or are computed at the same time; further ones are refused.
        upload_seconds: how long a client may take to send its request, because it holds a place in the queue meanwhile.

    Raises:
        ValueError: for one that is not positive.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    queue: int = 32
    upload_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}; expected a positive number")
