"""Prometheus's own evaluation of an expression over series that a test makes up, by `promtool test rules`."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RUN_S: Final = 60.0


@dataclass(frozen=True)
class Question:
    """Whether an expression yields anything at a minute.

    Attributes:
        name: of the question.
        expression: in PromQL.
        series: the values of each series, one a minute, as promtool writes them.
        minute: when.
        fires: the answer that is expected.
    """

    name: str
    expression: str
    series: Mapping[str, str]
    minute: int
    fires: bool


def wrong_answers(questions: Sequence[Question]) -> str:
    """Return what promtool says against the expected answers; "" when they are all right.

    Raises:
        FileNotFoundError: there is no promtool.
    """
    with tempfile.TemporaryDirectory() as directory:
        rules, tests = Path(directory) / "rules.yml", Path(directory) / "tests.yml"
        named = {question.name: question.expression for question in questions}
        alerts = [{"alert": name, "expr": f"count({expression})"} for name, expression in named.items()]
        rules.write_text(json.dumps({"groups": [{"name": "alarms", "rules": alerts}]}), "utf-8")  # JSON is YAML
        asked = [_test_of(question) for question in questions]
        tests.write_text(json.dumps({"rule_files": [str(rules)], "tests": asked}), "utf-8")
        command = ["promtool", "test", "rules", str(tests)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
    return f"{run.stdout}{run.stderr}" if run.returncode else ""


def _test_of(question: Question) -> dict[str, object]:
    expected: list[dict[str, object]] = [{"exp_labels": {}}] if question.fires else []
    asked = {"alertname": question.name, "eval_time": f"{question.minute}m", "exp_alerts": expected}
    series = [{"series": name, "values": values} for name, values in question.series.items()]
    name = f"{question.name}, {'fires' if question.fires else 'is calm'}"
    return {"name": name, "interval": "1m", "input_series": series, "alert_rule_test": [asked]}
