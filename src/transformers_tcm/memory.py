"""How the C library hands memory back to the system."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let the process keep freed memory instead of returning it to the system after each use.

    glibc maps blocks above 32 MB anew for every allocation, and the system then clears them page by page: on virtual
    machines training can spend nine tenths of its time there. The price is that memory use stays at its peak.

    Returns:
        Whether the C library took the settings: only glibc (Linux) does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(name, value) for name, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26))
    )
