"""The images and the compose file as data, and what a build of an image would see of the tree."""

import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import yaml
from docker.utils.build import exclude_paths  # type: ignore[import-untyped]  # ships no types
from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]  # ships no types

import consumer.settings
import ingest.settings

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICES: Final = ("ingest", "consumer")
IMAGE_OF: Final = {
    "ingest": "ingest",
    "consumer": "consumer",
    "migrate": "consumer",
    "canary": "consumer",
    "schemas": "consumer",
}  # our services in the compose file
IMPORT_ALL: Final = """
import importlib, pkgutil, sys
missing = set(sys.argv[1].split(","))
class NotThere:
    def find_spec(self, name, path=None, target=None):
        if name in missing or name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotThere())
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if module.name not in missing:
            importlib.import_module(module.name)
"""
"""A program that imports all modules of packages. Its first argument names modules that it is not to find."""
_ASSIGNMENT: Final = re.compile(r"(\w+)=(\"[^\"]*\"|\S+)")


@dataclass
class Stage:
    """One FROM of a Dockerfile and what follows it.

    Attributes:
        base: the image that it starts from.
        instructions: name and value of each, in order, continuation lines joined.
    """

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Return the values of every instruction of this name."""
        return [value for known, value in self.instructions if known == name]

    def last(self, name: str) -> str:
        """Return the value of the instruction that counts: the last of its name; "" when there is none."""
        return (self.all(name) or [""])[-1]

    def environment(self) -> dict[str, str]:
        """Return what ENV sets."""
        return {name: value.strip('"') for name, value in _ASSIGNMENT.findall(" ".join(self.all("ENV")))}

    def healthcheck(self) -> list[str]:
        """Return the command of HEALTHCHECK as a list; empty when there is none or it is not in exec form."""
        return exec_form(self.last("HEALTHCHECK").partition("CMD ")[2])


def exec_form(value: str) -> list[str]:
    """Return the list that the value of CMD, ENTRYPOINT or HEALTHCHECK CMD is; empty when it is a shell's."""
    try:
        command = json.loads(value)
    except ValueError:
        return []
    return command if isinstance(command, list) else []


def stages(service: str) -> list[Stage]:
    """Return the stages of a service's Dockerfile; the last one is the image."""
    content = (ROOT / f"deploy/Dockerfile.{service}").read_bytes()
    found: list[Stage] = []
    for item in DockerfileParser(fileobj=BytesIO(content)).structure:
        if item["instruction"] == "FROM":
            found.append(Stage(item["value"].split()[0]))
        elif item["instruction"] != "COMMENT":
            found[-1].instructions.append((item["instruction"], item["value"]))
    return found


def build_context() -> set[str]:
    """Return the files, relative to the top, that .dockerignore lets into a build."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] not in {"", "#"}]
    sent = {path for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()}
    return sent - {".dockerignore"}  # always sent, for the engine's own use


def copied_files(stage: Stage) -> dict[str, set[str]]:
    """Return the sources that a stage copies from the build context, and the files that each of them stands for."""
    context = build_context()
    sources = [source for value in stage.all("COPY") if "--from" not in value for source in value.split()[:-1]]
    return {name: {path for path in context if path == name or path.startswith(f"{name}/")} for name in sources}


@cache
def compose_file() -> dict[str, Any]:
    """Return docker-compose.yml, anchors and merges resolved, variables not."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def part(service: str) -> dict[str, Any]:
    """Return a service of the compose file."""
    found: dict[str, Any] = compose_file()["services"][service]
    return found


def environment(service: str) -> dict[str, str]:
    """Return what a container of one of our services sees: the image's variables, then the compose file's."""
    own = {name: str(value) for name, value in part(service).get("environment", {}).items()}
    return stages(IMAGE_OF[service])[-1].environment() | own


def settings_of(service: str) -> ingest.settings.Settings | consumer.settings.Settings:
    """Return the settings that a container of one of our services starts with."""
    load = ingest.settings.load if IMAGE_OF[service] == "ingest" else consumer.settings.load
    return load(environment(service))


def volumes(service: str) -> dict[str, str]:
    """Return path in the container -> volume; directories of the project are none."""
    pairs = [text.split(":") for text in part(service).get("volumes", []) if not text.startswith("./")]
    return {path: volume for volume, path, *_ in pairs}


def state_directories(service: str) -> set[str]:
    """Return the directories of the container that settings of one of our services name."""
    return {path for path in environment(service).values() if path.startswith("/var/lib/")}


def version() -> str:
    """Return the version that pyproject.toml says."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
