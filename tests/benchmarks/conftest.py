"""The benchmarks import their neighbours, as Python does where one is run as a script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
