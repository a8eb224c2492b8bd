"""Files that replace older ones all together, or not at all where the disk is full."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["WEIGHT_FILES", "atomic_write"]

# What `save_pretrained` of transformers writes weights to.
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")


@contextmanager
def atomic_write(folder: str | os.PathLike[str], replaced: tuple[str, ...] = ()) -> Iterator[Path]:
    """An empty folder whose files move to `folder` at the end of the `with` block.

    After an exception in the block everything in `folder` is as it was.

    Args:
        folder: made where it does not exist.
        replaced: patterns of file names; what fits one of them and was not written anew is removed, such as the shards
            of a larger model.

    Yields:
        A folder inside `folder`, because files move at once and without a copy on one file system only.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".incomplete-", dir=target) as temporary:
        with _final_names_in_logs(temporary, str(target)):
            yield Path(temporary)
        written = sorted(Path(temporary).iterdir())
        for path in written:
            path.replace(target / path.name)
        names = {path.name for path in written}
        if any(Path(name).match(pattern) for name in names for pattern in replaced):
            for pattern in replaced:
                for old in target.glob(pattern):
                    if old.name not in names:
                        old.unlink()


@contextmanager
def _final_names_in_logs(temporary: str, target: str) -> Iterator[None]:
    """What transformers logs of files in a temporary folder names the folder where they will be."""

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().replace(temporary, target), None
        return True

    # Filters of a logger do not see the records of the loggers below it; those of its handlers do.
    handlers = [*logging.getLogger("transformers").handlers, *logging.getLogger().handlers]
    for handler in handlers:
        handler.addFilter(rename)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(rename)
