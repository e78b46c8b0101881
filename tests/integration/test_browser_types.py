"""The browser client's types, by TypeScript's own compiler, as docs/CLIENTS.md says that a project uses them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK_ONLY

ROOT: Final = Path(__file__).resolve().parents[2]
CONFIG: Final = re.compile(r"```json\n(\{\s*\"compilerOptions\".*?)^```", re.MULTILINE | re.DOTALL)
# A line below @ts-expect-error must be wrong, and every other one right.
MODULE: Final = """
import headrace, { flush, init, pending, track, view, type Fields } from "https://collect.example.com/headrace.mjs";
init({ clientId: "web", fields: { contentId: "a" }, onRefused: (event, why) => console.log(event.n, why.length) });
const id: string = track("CLICK", { clickAction: "BUY_NOW", price: 9.5, nested: { list: [1, null] } });
const fields: Fields = { userId: "u" };
headrace.view(fields); view(); track("SHARE");
const left: number = pending();
flush().then(() => console.log(id, left));
// @ts-expect-error: a type is a text
track(5);
// @ts-expect-error: a userId is a text
track("CLICK", { userId: 5 });
// @ts-expect-error: there is no such option
init({ client: "web" });
// @ts-expect-error: an eventType is no option
headrace.send();
"""
SCRIPT: Final = """
headrace.init();
const id: string = headrace.track("VIEW");
// @ts-expect-error: a number of events
const left: string = headrace.pending();
"""


@SOAK_ONLY
@pytest.mark.timeout(600)
def test_the_types_are_right_and_find_mistakes(tmp_path: Path) -> None:
    """For the module under its address, and for the global of the script."""
    found = CONFIG.search((ROOT / "docs/CLIENTS.md").read_text("utf-8"))
    assert found is not None
    config = json.loads(found[1])
    config["compilerOptions"] |= {"strict": True, "noEmit": True, "target": "es2022", "lib": ["es2022", "dom"]}
    shutil.copy(ROOT / "clients/browser/headrace.d.ts", tmp_path)
    for name, text in (("module.ts", MODULE), ("script.ts", SCRIPT)):
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "tsconfig.json").write_text(json.dumps(config | {"files": ["headrace.d.ts", "module.ts", "script.ts"]}))
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "typescript@5"]
    subprocess.run(npm, cwd=tmp_path, check=True, timeout=300)

    done = subprocess.run(
        ["node_modules/.bin/tsc", "-p", "."], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")
