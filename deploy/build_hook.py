"""Compiles the modules of `_MODULES` when headrace is installed or packed; hatchling calls this (pyproject.toml).

Where there is no C compiler the installation goes on without it: what they do is then done in Python.
"""

import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
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
_SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))


class CompileHook(BuildHookInterface):  # type: ignore[misc]  # hatchling is only there while building
    """Makes the wheel one for this platform, with the compiled modules in it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (hatchling's form)
        """Compile before files are collected."""
        if self.target_name != "wheel":
            return
        for module in _MODULES:
            made = module.replace(".", "/") + _SUFFIX
            Path(self.root, made).unlink(missing_ok=True)  # else one of older sources would be used, and packed
            try:
                _compile(Path(self.root), module)
            except (BaseError, CCompilerError) as error:
                print(f"headrace: {module} is not compiled, Python does the same: {error}", file=sys.stderr)
                continue
            build_data["artifacts"].append(f"/{made}")  # Git ignores it; another Python's may lie beside it
            build_data["pure_python"] = False
            build_data["infer_tag"] = True


def _compile(root: Path, module: str) -> None:
    """Put a module beside its source, where an editable installation finds it."""
    with TemporaryDirectory() as directory:
        source = root.joinpath(*module.split(".")).with_suffix(".pyx").relative_to(Path.cwd())
        modules = cythonize([Extension(module, [str(source)])], build_dir=directory, quiet=True)
        command = build_ext(Distribution({"ext_modules": modules}))
        command.inplace = True
        command.build_temp = directory
        command.ensure_finalized()
        command.run()
