"""Run the common tests of transformers on the models of this package.

The tests that every model of transformers has to pass (`ModelTesterMixin`, `BackboneTesterMixin`, ...) are not part of
its wheel, but of its source distribution. This script fetches the one of the installed version, lays out its common
tests with the few modules they import in vain, adds `tests/hf/` as `tests/models/tcm/` and runs pytest there.

    python scripts/run_transformers_common_tests.py [--pip-args=...] [arguments for pytest]
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# What the common tests import from the parts of the transformers repository that its source distribution leaves out.
STUBS = {
    "pytest.ini": "[pytest]\n",  # ends the search for a configuration here, below our own pyproject.toml
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "tests/utils/test_configuration_utils.py": """config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": 0},
}
""",
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url, *args, **kwargs):\n    return url\n",
}


def download_sources(cache: Path, pip_args: list[str]) -> Path:
    """The source distribution of the installed transformers, downloaded into `cache` unless it is there.

    Raises:
        subprocess.CalledProcessError: if pip finds no such distribution.
    """
    release = version("transformers")
    archive = cache / f"transformers-{release}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
        subprocess.run([*pip, "--dest", str(cache), *pip_args, f"transformers=={release}"], check=True)
    return archive


def lay_out(archive: Path, kit: Path, own_tests: Path) -> None:
    """Write the folder that pytest runs in: common tests, stubs and our own tests, nothing else."""
    shutil.rmtree(kit, ignore_errors=True)
    root = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as sources:
        for member in sources.getmembers():
            member.name = member.name.removeprefix(f"{root}/")
            if Path(member.name).match("tests/test_*.py"):
                sources.extract(member, kit, filter="data")
    for name, text in STUBS.items():
        (kit / name).parent.mkdir(parents=True, exist_ok=True)
        (kit / name).write_text(text)
    shutil.copytree(own_tests, kit / "tests/models/tcm", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [kit / "tests", *(path for path in kit.glob("tests/**/") if path.is_dir())]:
        (folder / "__init__.py").touch()  # the tests import each other by relative names


def main() -> int:
    """The exit status of pytest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "build" / "transformers-tests")
    parser.add_argument("--pip-args", type=shlex.split, default=[], help="more arguments for `pip download`")
    options, pytest_args = parser.parse_known_args()

    kit = options.cache / "kit"
    lay_out(download_sources(options.cache, options.pip_args), kit, REPOSITORY / "tests" / "hf")
    pytest = [sys.executable, "-m", "pytest", "tests/models/tcm", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    # The models are too small for more than one thread, which only wait for each other on a busy machine.
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*pytest, *pytest_args], cwd=kit, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
