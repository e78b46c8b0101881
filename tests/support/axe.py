"""axe-core, which finds faults of accessibility in a page: fetched from Maven Central once and kept in .cache.

Its authors' jar for Selenium is only the file that holds it: nothing of Selenium is used.
"""

import secrets
import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

from deploy.embedded.kafka_distribution import CACHE, copy_dependencies, publish
from tests.support.devtools import Page

_VERSION: Final = "4.10.1"
_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace.tests</groupId><artifactId>axe</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>com.deque.html.axe-core</groupId><artifactId>selenium</artifactId><version>{_VERSION}</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>
  </dependencies>
</project>
"""
_SERIOUS: Final = ("serious", "critical")


def faults(page: Page) -> list[str]:
    """Return the serious and critical faults of the page as it is now: the rule, and the first elements."""
    page.run(_script() + ";0")
    told: dict[str, Any] = page.run("axe.run()")
    return [
        f"{rule['id']}: {[node['target'] for node in rule['nodes']][:3]}: {rule['nodes'][0]['failureSummary']}"
        for rule in told["violations"]
        if rule["impact"] in _SERIOUS
    ]


def _script(cache: Path = CACHE) -> str:
    """Return axe's source, fetching it first when ``cache`` lacks it.

    Raises:
        NotAvailableError: Maven is missing, or could not fetch it.
    """
    target = cache / f"axe-core-{_VERSION}"
    if not target.is_dir():
        draft = cache / f".axe-core-{_VERSION}-{secrets.token_hex(4)}"
        try:
            copy_dependencies(f"axe-core {_VERSION}", _POM, draft)
            publish(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    with zipfile.ZipFile(target / f"selenium-{_VERSION}.jar") as jar:
        return jar.read("axe.min.js").decode()
