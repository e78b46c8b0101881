"""Compiles modules when headrace is installed or packed; hatchling calls this (pyproject.toml).

- `_MODULES` are Cython's, each with its Python beside it.
- `_TYPED` are ordinary modules, the request path, which mypyc compiles as one group. Only a wheel has them compiled. In
  an editable installation they stay Python, so that what a developer changes is what runs.

Where there is no C compiler the installation goes on without it: Python then does the same.
"""

import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copyfile
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
        """Compile before files are collected; hatchling says what for: "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        self._made = TemporaryDirectory()
        directory = Path(self._made.name)
        if version == "editable":
            for module in _MODULES:
                beside = Path(self.root, module.replace(".", "/") + _SUFFIX)
                beside.unlink(missing_ok=True)  # else one of older sources would be used
                for file in _compiled(module, _compile, module, directory):
                    copyfile(file, beside)
                    _bind(build_data)
            return
        files = [file for module in _MODULES for file in _compiled(module, _compile, module, directory)]
        files += _compiled("the request path", _compile_typed, directory)
        for file in files:
            build_data["force_include"][str(file)] = str(file.relative_to(directory / "made"))
            _bind(build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was compiled: the wheel has it now."""
        if self._made is not None:
            self._made.cleanup()


def _bind(build_data: dict[str, Any]) -> None:
    """Make the wheel one for this Python and platform."""
    build_data["pure_python"] = False
    build_data["infer_tag"] = True


def _compiled(what: str, compile_it: Callable[..., list[Path]], *args: object) -> list[Path]:
    """Return the files, none where there is no compiler; a source that mypyc rejects fails the build."""
    try:
        return compile_it(*args)
    except (BaseError, CCompilerError) as error:
        print(f"headrace: {what} is not compiled, Python does the same: {error}", file=sys.stderr)
        return []


def _compile(module: str, directory: Path) -> list[Path]:
    """Compile a module of Cython's."""
    source = f"{module.replace('.', '/')}.pyx"
    return _build(cythonize([Extension(module, [source])], build_dir=f"{directory}/c", quiet=True), directory, module)


def _compile_typed(directory: Path) -> list[Path]:
    """Compile the modules of _TYPED as one group."""
    sources = [f"{module.replace('.', '/')}.py" for module in _TYPED]
    options = [*_MYPY, f"--cache-dir={directory}/cache", *sources]
    extensions = mypycify(options, opt_level="2", debug_level="0", target_dir=f"{directory}/c", group_name="headrace")
    return _build(extensions, directory, "typed")


def _build(extensions: Sequence[Extension], directory: Path, name: str) -> list[Path]:
    """Run the C compiler; return the files, which lie under "made" as in a wheel."""
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib = f"{directory}/made"
    command.build_temp = f"{directory}/{name}"
    command.ensure_finalized()
    command.run()
    return [Path(file) for file in command.get_outputs()]
