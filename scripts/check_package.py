"""Build the package, install it into empty environments and use it there: what the tests of a checkout cannot see.

    python scripts/check_package.py [--steps build install ...] [--pip-args="--find-links wheels"]

    build        wheel and source distribution, their contents, and that both ways to the wheel give the same
    install      the wheel in an empty environment, newest dependencies; without and with torchvision; import time
    lowest       the same with the lowest version allowed of each dependency, transformers among them
    pythons      each Python of the classifiers: wheels of all dependencies, and, where that Python is installed, an
                 installation of this package alone and its byte code
    pages        every block of README.md and docs/own_photos.md, in an empty environment beside a clone without `src`

Everything happens in a temporary folder, one environment at a time; torch is the one of constraints.txt. A package
index is needed. Exit codes: 0 all is well, 1 something is wrong with the package, 2 nothing can be downloaded.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from check_package_contents import sdist_mistakes, wheel_contents, wheel_metadata, wheel_mistakes
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["CheckError", "lowest_versions", "main", "requirements"]

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTO = REPOSITORY / "examples" / "images" / "street.jpg"
# Releases that belong together, for the torch of constraints.txt.
TORCHVISION_FOR_TORCH = {"2.13.0": "0.28.0"}

# Prints the class in use, or the warnings where the import fails.
IMPORT_WITH_TORCHVISION = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        import transformers_tcm
        print(transformers_tcm.TCMImageProcessor.__name__)
    except (ImportError, RuntimeError) as error:
        print(error, *(warning.message for warning in caught))
"""


class CheckError(Exception):
    """Something is wrong with the package; the message says what."""


@dataclass(frozen=True)
class Work:
    """Where everything happens, and what pip is told in addition."""

    folder: Path
    pip_args: Sequence[str]

    @property
    def wheel(self) -> Path:
        """The built wheel."""
        return next((self.folder / "dist").glob("*.whl"))


def run(command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        CheckError: with the end of its output, if it fails.
    """
    # A search path or user packages from outside would hide that something is missing.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    inside = {"OMP_NUM_THREADS": "1", **outside, "PYTHONNOUSERSITE": "1", **(environment or {})}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=inside, capture_output=True, text=True)
    if done.returncode:
        output = "\n".join([*done.stdout.splitlines()[-30:], *done.stderr.splitlines()[-30:]])
        raise CheckError(f"failed: {shlex.join(map(str, command))}\n{output}")
    return done.stdout


def pip(python: Path | str, work: Work, *arguments: str | Path) -> str:
    """Run pip of another environment."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    return run([*command, *work.pip_args], work.folder)


def new_environment(work: Work, name: str, interpreter: str = sys.executable) -> Path:
    """Python of a new, empty environment."""
    folder = work.folder / name
    run([interpreter, "-m", "venv", folder], work.folder)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def torch_pin() -> str:
    """`torch==…` as constraints.txt has it."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.strip() for line in lines if line.startswith("torch=="))


def requirements(wheel: Path) -> list[Requirement]:
    """What a wheel requires without its extras, except for torch, whose build the user chooses."""
    lines = wheel_metadata(wheel).get_all("Requires-Dist") or []
    parsed = [Requirement(line) for line in lines]
    return [each for each in parsed if each.name != "torch" and "extra" not in str(each.marker or "")]


def lowest_versions(wheel: Path) -> list[str]:
    """`name==version` with the lower bound of each requirement.

    Raises:
        CheckError: naming a requirement without a lower bound.
    """
    pins = []
    for requirement in requirements(wheel):
        bounds = [each.version for each in requirement.specifier if each.operator == ">="]
        if not bounds:
            raise CheckError(f"{requirement} in setup.cfg has no lower bound")
        pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


def check_build(work: Work) -> None:
    """Wheel and source distribution from a copy of the sources, in which no earlier build can show through."""
    sources = work.folder / "sources"
    sources.mkdir()
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy2(path, sources)
    for name in ("src", "tests"):
        shutil.copytree(REPOSITORY / name, sources / name, ignore=shutil.ignore_patterns("*.egg-info"))
    python = new_environment(work, "builder")
    pip(python, work, "install", "--quiet", "build")
    run([python, "-m", "build", "--outdir", work.folder / "dist", sources], work.folder)
    run([python, "-m", "build", "--wheel", "--outdir", work.folder / "direct", sources], work.folder)
    sdist = next((work.folder / "dist").glob("*.tar.gz"))
    direct = next((work.folder / "direct").glob("*.whl"))
    mistakes = wheel_mistakes(work.wheel, sources / "src" / "transformers_tcm") + sdist_mistakes(sdist)
    if wheel_contents(work.wheel) != wheel_contents(direct):
        mistakes.append(f"{sdist.name} builds another wheel than the sources it was made from")
    if mistakes:
        raise CheckError("\n".join(mistakes))
    for path in (work.wheel, sdist):
        print(f"  {path.name}: {path.stat().st_size / 2**20:.1f} MiB")
    print(f"  {len(wheel_contents(work.wheel))} files; the source distribution builds the same wheel")


def install_wheel(work: Work, name: str, pins: Sequence[str] = (), extra: str = "") -> Path:
    """Python of an empty environment with the wheel, after the pinned torch."""
    constraints = work.folder / f"{name}.txt"
    constraints.write_text("\n".join([torch_pin(), *pins]), encoding="utf-8")
    python = new_environment(work, name)
    pip(python, work, "install", "--quiet", torch_pin())
    pip(python, work, "install", "--quiet", "--constraint", constraints, f"{work.wheel}{extra}")
    pip(python, work, "check")
    names = {canonicalize_name(each.name) for each in requirements(work.wheel)}
    frozen = pip(python, work, "list", "--format", "freeze").splitlines()
    print("  " + ", ".join(line for line in frozen if canonicalize_name(line.split("==")[0]) in names))
    return python


def smoke(work: Work, python: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run `check_package_smoke.py` in an environment, from a folder that holds nothing but a photo."""
    elsewhere = Path(tempfile.mkdtemp(dir=work.folder))
    shutil.copy2(PHOTO, elsewhere)
    script = shutil.copy2(REPOSITORY / "scripts" / "check_package_smoke.py", work.folder)
    inside = {"HF_HOME": str(work.folder / "cache"), **(environment or {})}
    print(run([python, "-P", "-s", script, PHOTO.name], elsewhere, inside), end="")


def check_install(work: Work) -> None:
    """Newest dependencies."""
    python = install_wheel(work, "newest")
    smoke(work, python)
    print("  import time: " + run([python, REPOSITORY / "benchmarks" / "import_time.py"], work.folder), end="")
    check_torchvision(work, python)


def check_torchvision(work: Work, python: Path) -> None:
    """The same with torchvision, unpacked beside the environment instead of installed into it.

    The wheel of the package index may not fit the torch here. transformers cannot import its image processors then,
    and a warning of this package has to say why. The shim of the tests makes it usable.
    """
    release = TORCHVISION_FOR_TORCH.get(torch_pin().removeprefix("torch=="))
    if release is None:
        raise CheckError(f"TORCHVISION_FOR_TORCH in {__file__} does not know the torchvision for {torch_pin()}")
    shelf = work.folder / "torchvision"
    pip(python, work, "download", "--quiet", "--no-deps", "--dest", shelf, f"torchvision=={release}")
    unpacked, shim = shelf / "unpacked", shelf / "shim"
    shutil.unpack_archive(next(shelf.glob("*.whl")), unpacked, "zip")
    shim.mkdir()
    # As `sitecustomize`, every process of the environment imports it, the commands among them.
    shutil.copy2(REPOSITORY / "tests" / "torchvision_shim.py", shim / "sitecustomize.py")
    here = {"PYTHONPATH": str(unpacked)}
    says = run([python, "-c", IMPORT_WITH_TORCHVISION], shelf, here)
    if says.startswith("TCMImageProcessor"):  # it fits this torch
        smoke(work, python, here)
        return
    if "uninstall torchvision" not in says:
        raise CheckError(f"nothing explains that torchvision does not fit this torch, only: {says}")
    print("  torchvision does not fit this torch: a warning says so")
    with_shim = {"PYTHONPATH": str(shim), "TCM_TORCHVISION_DIR": str(unpacked)}
    smoke(work, python, with_shim)
    tests = REPOSITORY / "tests" / "models" / "tcm" / "test_image_processing_tcm.py"
    pytest = [sys.executable, "-m", "pytest", "-q", f"{tests}::test_all_of_this_with_torchvision"]
    print("  tests of the image processor: " + run(pytest, REPOSITORY, with_shim | {"PYTHONPATH": ""}).splitlines()[-1])


def check_lowest(work: Work) -> None:
    """Lowest dependencies."""
    smoke(work, install_wheel(work, "lowest", lowest_versions(work.wheel)))


def interpreter(version: str) -> str | None:
    """An installed Python of this version, on the path or among those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return str(candidate)
    return None


def check_pythons(work: Work) -> None:
    """Each Python of the classifiers."""
    prefix = "Programming Language :: Python :: 3."
    classifiers = wheel_metadata(work.wheel).get_all("Classifier") or []
    for version in [line.removeprefix(prefix[:-2]) for line in classifiers if line.startswith(prefix)]:
        target = ["--ignore-installed", "--target", work.folder / "nothing", "--python-version", version]
        resolve = ["install", "--dry-run", "--quiet", *target, "--only-binary=:all:"]
        pip(sys.executable, work, *resolve, *map(str, requirements(work.wheel)))
        pip(sys.executable, work, *resolve, "--no-deps", torch_pin())
        found = interpreter(version)
        print(f"  Python {version}: all dependencies have wheels", end="" if found else "; it is not installed here\n")
        if found is None:
            continue
        python = new_environment(work, f"python{version}", found)
        pip(python, work, "install", "--quiet", "--no-deps", "--no-compile", work.wheel)
        code = "import sysconfig; print(sysconfig.get_path('purelib') + '/transformers_tcm')"
        package = run([python, "-c", code], work.folder).strip()
        run([python, "-W", "error", "-m", "compileall", "-q", package], work.folder)
        print("; installs (without them) and compiles without a warning")


def check_pages(work: Work) -> None:
    """What a reader copies from the pages, by the tests that run their blocks."""
    python = install_wheel(work, "reader", extra="[train]")
    pip(python, work, "install", "--quiet", "pytest", "hypothesis")
    clone = work.folder / "clone"
    clone.mkdir()
    for name in ("README.md", "Makefile", "constraints.txt", "pyproject.toml", "setup.cfg"):
        shutil.copy2(REPOSITORY / name, clone)
    for name in ("docs", "examples", "hub_configs", "scripts", "tests"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    tests = ["tests/test_readme.py", "tests/test_own_photos.py"]
    print("  " + run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], clone).splitlines()[-1])


STEPS: dict[str, Callable[[Work], None]] = {
    "build": check_build,
    "install": check_install,
    "lowest": check_lowest,
    "pythons": check_pythons,
    "pages": check_pages,
}


def main() -> int:
    """0 if all is well, 1 if something is wrong with the package, 2 if nothing can be downloaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", choices=[*STEPS], default=[*STEPS], help="build always runs first")
    parser.add_argument("--pip-args", type=shlex.split, default=[], help="more arguments for pip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="check_package_") as folder:
        work = Work(Path(folder), options.pip_args)
        probe = ["download", "--quiet", "--no-deps", "--retries", "1", "--timeout", "15", "--dest", folder, "build"]
        try:
            pip(sys.executable, work, *probe)
        except CheckError as error:
            print(f"{error}\n\npip cannot download. These checks install the package into empty environments, so they")
            print('need a package index: connect this machine, or name one, such as --pip-args="--find-links FOLDER"')
            print('(make test-all PIP_ARGS="…"). Nothing was checked here; the other tests do not need one.')
            return 2
        for name in dict.fromkeys(["build", *options.steps]):
            print(f"{name}:", flush=True)
            try:
                STEPS[name](work)
            except CheckError as error:
                print(f"{error}\n\n{name} failed")
                return 1
            for environment in work.folder.glob("*/pyvenv.cfg"):
                shutil.rmtree(environment.parent)
    print("the package is complete")
    return 0


if __name__ == "__main__":
    sys.exit(main())
