"""Run the steps of the Dockerfile without Docker: each stage in an empty virtual environment, then what it starts.

    python scripts/check_dockerfile.py [--build-arg NAME=VALUE ...]

Folders of the image lie in a temporary one, and RUN is run by a shell with the environment's programs first. What only
an image has is left out: its Debian and its Python (this one takes their place), and the user. Then ENTRYPOINT is
started, HEALTHCHECK has to succeed, a photo is posted and SIGTERM has to end it. A package index is needed, and port
8000. Exit codes: 0 all is well, 1 something is wrong.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Instruction", "main", "parse_dockerfile"]

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTO = REPOSITORY / "examples" / "images" / "street.jpg"
START_SECONDS = 300
_KNOWN = ("FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT")


class Instruction(NamedTuple):
    """A step of a Dockerfile."""

    name: str
    value: str


def parse_dockerfile(text: str) -> list[Instruction]:
    """The instructions, without comments.

    Raises:
        ValueError: for one that this script cannot run.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    instructions = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, value = line.partition(" ")
        if name not in _KNOWN:
            raise ValueError(f"{name} is an instruction that check_dockerfile.py cannot run")
        instructions.append(Instruction(name, " ".join(value.split())))
    return instructions


@dataclass
class Stage:
    """What a stage of the build has come to."""

    root: Path
    working: Path
    environment: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Of a file of the image, here."""
        return self.root / name[1:] if name.startswith("/") else self.working / name

    def run(self, command: list[str]) -> None:
        """Raises `CalledProcessError` if it fails."""
        subprocess.run(command, cwd=self.working, env=self.environment, check=True)


class Build:
    """Runs instructions in a temporary folder."""

    def __init__(self, folder: Path, arguments: Mapping[str, str]):
        self.folder, self.arguments = folder, arguments
        self.stages: dict[str, Stage] = {}
        self.values: dict[str, str] = {}  # of what is not run at once
        self.stage: Stage

    def run(self, instruction: Instruction) -> None:
        """One step."""
        print(f"{instruction.name} {instruction.value}", flush=True)
        step = getattr(self, f"_{instruction.name.lower()}", None)
        if step is None:
            self.values[instruction.name] = instruction.value
        else:
            step(instruction.value)

    def _from(self, value: str) -> None:
        name = value.split(" AS ")[-1]
        root = self.folder / str(len(self.stages))
        root.mkdir()
        subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
        outside = {key: text for key, text in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        path = f"{root / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.stage = self.stages[name] = Stage(root, root, {**outside, "PATH": path, "PYTHONNOUSERSITE": "1"})

    def _workdir(self, value: str) -> None:
        self.stage.working = self.stage.path(value)
        self.stage.working.mkdir(parents=True, exist_ok=True)

    def _copy(self, value: str) -> None:
        *sources, target = value.split()
        source_of = self.stages[sources.pop(0).removeprefix("--from=")].path if "--from=" in value else self._in_context
        for source in map(source_of, sources):
            place = self.stage.path(target)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy2(source, place)

    def _in_context(self, name: str) -> Path:
        return REPOSITORY / name

    def _arg(self, value: str) -> None:
        name, _, default = value.partition("=")
        self.stage.environment[name] = self.arguments.get(name, default)

    def _env(self, value: str) -> None:
        name, _, text = value.partition("=")
        self.stage.environment[name] = text

    def _run(self, value: str) -> None:
        if not value.startswith("useradd"):  # which would change this system
            self.stage.run(["sh", "-c", value])


def check_service(build: Build) -> None:
    """Start it, wait until it is healthy, post a photo, and stop it.

    Raises:
        TimeoutError: if it does not become healthy.
        RuntimeError: if it does not end as it should.
    """
    stage = build.stage
    command = json.loads(build.values["ENTRYPOINT"])
    healthy = json.loads(build.values["HEALTHCHECK"].partition("CMD ")[2])
    with subprocess.Popen(command, cwd=stage.working, env=stage.environment) as service:
        try:
            end = time.monotonic() + START_SECONDS
            while subprocess.run(healthy, env=stage.environment, stderr=subprocess.DEVNULL).returncode:
                if service.poll() is not None or time.monotonic() > end:
                    raise TimeoutError("the service does not become healthy")
                time.sleep(1)
            with urllib.request.urlopen(
                f"http://127.0.0.1:{build.values['EXPOSE']}/spot", PHOTO.read_bytes()
            ) as answer:
                words = [word["text"] for word in json.load(answer)["instances"]]
            print("read:", *words)
            service.send_signal(signal.SIGTERM)
            if service.wait(START_SECONDS):
                raise RuntimeError(f"the service ended with {service.returncode}")
        finally:
            service.kill()


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as of docker build")
    options = parser.parse_args(arguments)
    instructions = parse_dockerfile((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        build = Build(Path(folder), dict(one.split("=", 1) for one in options.build_arg))
        try:
            for instruction in instructions:
                build.run(instruction)
            check_service(build)
        except (subprocess.CalledProcessError, TimeoutError, RuntimeError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
