"""What has to be in a wheel and in a source distribution of this package, and what must not.

    python scripts/check_package_contents.py dist/*.whl dist/*.tar.gz

prints the mistakes and exits with 1 if there are any. `check_package.py` builds the two and calls this.
"""

import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

__all__ = ["sdist_mistakes", "wheel_contents", "wheel_metadata", "wheel_mistakes"]

PACKAGE = "transformers_tcm"
SOURCES = Path(__file__).resolve().parent.parent / "src" / PACKAGE
# Without these the package imports, and then fails where it is used.
ESSENTIAL = [
    "py.typed",
    "bundled/fasttcm-dbnet-tiny/config.json",
    "bundled/fasttcm-dbnet-tiny/model.safetensors",
    "bundled/fasttcm-dbnet-tiny/preprocessor_config.json",
    "bundled/fasttcm-spotter-tiny/config.json",
    "bundled/fasttcm-spotter-tiny/model.safetensors",
    "bundled/fasttcm-spotter-tiny/preprocessor_config.json",
    "data/rendering/street_words.txt",
    "demo/street.jpg",
    "evaluation/report/page.html",
    "models/tcm/assets/bpe_simple_vocab_16e6.txt.gz",
]
UNWANTED_PARTS = {"tests", "test", "__pycache__", "build", "runs", "docs", "examples", "benchmarks", "scripts"}
UNWANTED_SUFFIXES = {".pyc", ".pyo", ".pt", ".pth", ".ckpt", ".log"}


def wheel_contents(wheel: Path) -> dict[str, int]:
    """The checksum of each file in a wheel, by its name. Two builds of the same sources have the same."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist() if not info.is_dir()}


def wheel_metadata(wheel: Path) -> Message:
    """Name, version, requirements and the rest of the METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def _unwanted(names: set[str]) -> list[str]:
    """Tests, caches and outputs among the files below the package or the root."""
    paths = [PurePosixPath(name) for name in names]
    return sorted(str(path) for path in paths if path.suffix in UNWANTED_SUFFIXES or UNWANTED_PARTS & {*path.parts})


def wheel_mistakes(wheel: Path, sources: Path = SOURCES) -> list[str]:
    """What is wrong with a wheel, a line each: it has to hold the files of `sources` and its metadata, no others."""
    names = set(wheel_contents(wheel))
    ours = {name.removeprefix(f"{PACKAGE}/") for name in names if name.startswith(f"{PACKAGE}/")}
    info = {name for name in names if PurePosixPath(name).parts[0].endswith(".dist-info")}
    expected = {
        path.relative_to(sources).as_posix()
        for path in sources.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    others = names - info - {f"{PACKAGE}/{name}" for name in ours}
    mistakes = [f"{wheel.name}: lacks {name}" for name in sorted(expected | {*ESSENTIAL}) if name not in ours]
    mistakes += [f"{wheel.name}: {name} is not among the sources" for name in sorted(ours - expected)]
    mistakes += [f"{wheel.name}: {name} lies outside {PACKAGE}" for name in sorted(others)]
    mistakes += [f"{wheel.name}: holds {name}" for name in _unwanted(ours)]
    for name in ("entry_points.txt", "licenses/LICENSE"):
        if not any(path.endswith(f".dist-info/{name}") for path in info):
            mistakes.append(f"{wheel.name}: its metadata lacks {name}")
    return mistakes


def sdist_mistakes(sdist: Path) -> list[str]:
    """What is wrong with a source distribution, a line each: it has to hold what a build needs, and no tests."""
    with tarfile.open(sdist) as archive:
        paths = [PurePosixPath(member.name) for member in archive.getmembers() if member.isfile()]
    names = {str(PurePosixPath(*path.parts[1:])) for path in paths}
    needed = ["LICENSE", "README.md", "pyproject.toml", "setup.cfg", *(f"src/{PACKAGE}/{name}" for name in ESSENTIAL)]
    mistakes = [f"{sdist.name}: lacks {name}" for name in needed if name not in names]
    below_package = {name.removeprefix(f"src/{PACKAGE}/") for name in names}
    return mistakes + [f"{sdist.name}: holds {name}" for name in _unwanted(below_package)]


def main() -> int:
    """1 if a distribution named on the command line has mistakes, otherwise 0."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths:
        sys.exit((__doc__ or "").strip())
    checks = [wheel_mistakes(path) if path.suffix == ".whl" else sdist_mistakes(path) for path in paths]
    mistakes = [mistake for found in checks for mistake in found]
    print("\n".join(mistakes) or f"{len(paths)} distributions are complete")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
