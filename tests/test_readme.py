"""The README's promises: its length, its first commands, its example, its pictures and tables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 160


def test_the_two_commands_stand_first():
    commands = re.findall(r"^    (.+)$", README, flags=re.MULTILINE)
    assert commands[:2] == [
        "pip install -e . && python train.py",
        'pip install -e ".[test]" && pytest',
    ]


def example() -> str:
    (code,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    return code


def accuracy(code: str, capsys) -> float:
    exec(compile(code, "README.md", "exec"), {})
    return float(re.search(r"accuracy ([\d.]+)", capsys.readouterr().out)[1])


def test_the_example_is_a_short_training_loop_that_learns(capsys):
    assert len(example().strip().splitlines()) <= 20
    assert accuracy(example(), capsys) > 0.95, "its net does not evaluate as it trained"


def test_the_task_of_the_example_needs_delays(capsys):
    without = example().replace("max_delay_steps=21", "delays='none'")
    assert accuracy(without, capsys) < 0.4, "chance is 0.25"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).is_file()


def test_the_tables_come_from_the_result_files():
    command = [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"]
    here = os.environ | {"PYTHONPATH": str(ROOT)}  # this checkout, installed or not
    run = subprocess.run(command, capture_output=True, text=True, env=here)
    assert run.returncode == 0, run.stderr
