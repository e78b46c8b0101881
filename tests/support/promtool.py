"""Prometheus's own evaluation of rules over series that a test makes up, by `promtool test rules`."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RUN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Question:
    """Whether an alert fires at certain moments.

    Attributes:
        alert: its name; "" for any alert.
        series: the values of each series, one a step, as promtool writes them.
        fires: by step, whether it does.
        step_m: minutes between two values.
    """

    alert: str
    series: Mapping[str, str]
    fires: Mapping[int, bool]
    step_m: int = 1


def wrong_answers(rules: Path, questions: Sequence[Question]) -> str:
    """Return what promtool says against the expected answers; "" when they are all right.

    Raises:
        FileNotFoundError: there is no promtool.
    """
    return "".join(
        _run(rules, step_m, [question for question in questions if question.step_m == step_m])
        for step_m in sorted({question.step_m for question in questions})
    )


def check(rules: Path) -> str:
    """Return what `promtool check rules` has to say against a file; "" when nothing."""
    return _said(["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(rules)])


def _run(rules: Path, step_m: int, questions: Sequence[Question]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        tests = Path(directory) / "tests.yml"
        asked = [_test_of(question) for question in questions]
        document = {"rule_files": [str(rules)], "evaluation_interval": f"{step_m}m", "tests": asked}
        tests.write_text(json.dumps(document), "utf-8")  # JSON is YAML
        return _said(["promtool", "test", "rules", str(tests)])


def _said(command: Sequence[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
    return f"{run.stdout}{run.stderr}" if run.returncode else ""


def _test_of(question: Question) -> dict[str, object]:
    named = f'alertname="{question.alert}",' if question.alert else ""
    expression = f'count(ALERTS{{{named}alertstate="firing"}}) > bool 0 or vector(0)'
    asked = [
        {
            "expr": expression,
            "eval_time": f"{step * question.step_m}m",
            "exp_samples": [{"labels": "{}", "value": int(fires)}],
        }
        for step, fires in question.fires.items()
    ]
    series = [{"series": name, "values": values} for name, values in question.series.items()]
    name = question.alert or "all is well"
    return {"name": name, "interval": f"{question.step_m}m", "input_series": series, "promql_expr_test": asked}
