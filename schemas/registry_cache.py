"""What a Schema Registry answered, kept on disk."""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

log = logging.getLogger(__name__)


class Answers:
    """A registry's answers on disk, one file each; services that share the directory share the answers.

    A file is written under a unique name and then renamed, so no reader sees half a file and no writer disturbs
    another, not even in another container. It is not synced: after a loss of power a broken file counts as absent, and
    the registry is asked again. An unusable directory counts as empty.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> Any:
        """Return an answer, or None when there is no readable one."""
        try:
            return json.loads((self._directory / f"{name}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, name: str, answer: object) -> None:
        """Store an answer; if the disk can't, log it and continue."""
        draft = self._directory / f"{name}.{uuid4().hex}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(answer), "utf-8")
            draft.replace(self._directory / f"{name}.json")
        except OSError as error:
            log.warning("schema cache can't be written", extra={"path": str(self._directory), "reason": str(error)})
            with suppress(OSError):
                draft.unlink(missing_ok=True)
