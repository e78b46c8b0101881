"""Compiles modules when headrace is installed or packed; hatchling calls this (pyproject.toml).

- `_MODULES` are Cython's, each with its Python beside it.
- `_TYPED` are ordinary modules, which mypyc compiles together: the way of a request. Only a wheel has them compiled. In
  an editable installation they are Python, so that what a developer changes is what runs.

Where there is no C compiler the installation goes on without it: what they do is then done in Python.
"""

import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from mypyc.build import mypycify
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

_MODULES: Final = (
    "ingest.events.fresh_ids",
    "ingest.events.mark_counter",
    "ingest.events.plain_writer",
    "ingest.publishing.delivery_reports",
    "consumer.kafka.record_reader",
    "consumer.clickhouse.container_writer",
)
_TYPED: Final = (
    "ingest.access.control",
    "ingest.counters",
    "ingest.events.collector",
    "ingest.events.envelope",
    "ingest.events.ids",
    "ingest.events.plain",
    "ingest.events.sizes",
    "ingest.events.structure",
    "ingest.events.validator",
    "ingest.http.body",
    "ingest.http.client_ip",
    "ingest.http.context",
    "ingest.http.cors",
    "ingest.http.endpoints",
    "ingest.http.handler",
    "ingest.http.headers",
    "ingest.http.inflight",
    "ingest.http.middleware",
    "ingest.http.operations",
    "ingest.http.responses",
    "ingest.http.trace",
    "ingest.memory",
    "ingest.metric_values",
    "ingest.publishing.circuit_breaker",
    "ingest.publishing.completion",
    "ingest.publishing.kafka",
    "ingest.publishing.publisher",
    "ingest.server.connection",
    "ingest.server.parsing",
    "ingest.server.responses",
    "ingest.server.stream",
)
_SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))
# Of other packages only msgspec is there while building: what comes from the rest is Any.
_MYPY: Final = ("--config-file=", "--ignore-missing-imports")


class CompileHook(BuildHookInterface):  # type: ignore[misc]  # hatchling is only there while building
    """Makes the wheel one for this platform, with the compiled modules in it."""

    _made: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before files are collected; hatchling's `version` is what for: "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        for module in _MODULES:
            try:
                made = _compile(Path(self.root), module)
            except (BaseError, CCompilerError) as error:
                print(f"headrace: {module} is not compiled, Python does the same: {error}", file=sys.stderr)
                continue
            build_data["artifacts"].append(f"/{made}")  # Git ignores it; another Python's may lie beside it
            _bind(build_data)
        if version == "standard":
            self._made = TemporaryDirectory()
            try:
                files = _compile_typed(Path(self._made.name))
            except (BaseError, CCompilerError, SystemExit) as error:  # the last is mypyc's for what it does not take
                print(f"headrace: requests are handled in Python: {error}", file=sys.stderr)
                return
            build_data["force_include"].update(files)
            _bind(build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  (as above)
        """Remove what was compiled for a wheel, which has it now."""
        if self._made is not None:
            self._made.cleanup()


def _bind(build_data: dict[str, Any]) -> None:
    """Make the wheel one for this Python and platform."""
    build_data["pure_python"] = False
    build_data["infer_tag"] = True


def _compile(root: Path, module: str) -> str:
    """Put a module beside its source, where an editable installation finds it; return the file."""
    source = root.joinpath(*module.split(".")).with_suffix(".pyx")
    made = module.replace(".", "/") + _SUFFIX
    there = root / made
    if there.exists() and there.stat().st_mtime > max(source.stat().st_mtime, Path(__file__).stat().st_mtime):
        return made
    there.unlink(missing_ok=True)  # else one of older sources would be used, and packed
    with TemporaryDirectory() as directory:
        extension = Extension(module, [str(source.relative_to(Path.cwd()))])
        command = build_ext(Distribution({"ext_modules": cythonize([extension], build_dir=directory, quiet=True)}))
        command.inplace = True
        command.build_temp = directory
        command.ensure_finalized()
        command.run()
    return made


def _compile_typed(directory: Path) -> dict[str, str]:
    """Compile the modules of _TYPED as one group; return the files by where they are, with their places in a wheel."""
    sources = [f"{module.replace('.', '/')}.py" for module in _TYPED]
    options = [*_MYPY, f"--cache-dir={directory}/cache", *sources]
    extensions = mypycify(options, opt_level="2", debug_level="0", target_dir=f"{directory}/c", group_name="headrace")
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib = f"{directory}/made"
    command.build_temp = str(directory)
    command.ensure_finalized()
    command.run()
    made = directory / "made"
    return {str(file): str(file.relative_to(made)) for file in made.rglob(f"*{_SUFFIX}")}
