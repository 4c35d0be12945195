"""The page of an evaluation: whole, by itself, with the numbers of the evaluation."""

import re
import subprocess
import sys
from pathlib import Path

from inputgrad import evaluate
from pipeline import evaluated
from tests.inputgrad.test_evaluation import CHEAP, MINE, images

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_numbers_and_asks_no_server(tmp_path):
    net, x, y = images()
    found = evaluate(net, x, y, epsilon=0.1, attack=CHEAP)
    text = evaluated.write(found, "my <net>", tmp_path).read_text(encoding="utf-8")
    assert "<h1>my &lt;net&gt;</h1>" in text
    assert f"<strong>{100 * found.robust:.1f} % [" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert all(f"<code>{name}</code>" in text for name in (*found.masking, "pgd", "gradient_norm_l2"))
    assert text.count("⚑") == sum(not check["ok"] for check in found.masking.values())


def test_the_command(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    options = ("--data", "mine:data", "--epsilon", "0.05", "--examples", "6")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "evaluate", "mine:net", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.splitlines()[-1] == "evaluation/evaluation.html"
    assert (tmp_path / "evaluation/evaluation.html").stat().st_size > 10_000
    assert (tmp_path / "evaluation/outcomes.parquet").exists()
