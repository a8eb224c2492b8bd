"""`python -m transformers_tcm` is `transformers-tcm`, also where that command is not on the search path."""

from .cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
