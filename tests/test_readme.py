"""The README's promises: its first commands, its example, its generated tables, its file tree."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_two_commands_stand_first():
    commands = re.findall(r"^    (.+)$", README, flags=re.MULTILINE)
    assert commands[:2] == [
        "pip install -e . && python train.py",
        'pip install -e ".[test]" && pytest',
    ]


def test_the_example_runs_and_is_short(capsys):
    (code,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    assert "torch.Size([1, 20, 256])" in capsys.readouterr().out


def test_the_tables_come_from_the_result_files():
    command = [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_file_tree_names_every_file():
    tree = README.split("## What is inside")[1].split("## Limits")[0]
    for room in ("data", "kernels", "snndelay"):
        for path in (ROOT / room).glob("*.py"):
            if not path.name.startswith("__"):
                assert path.name in tree, f"the file tree lacks {room}/{path.name}"
