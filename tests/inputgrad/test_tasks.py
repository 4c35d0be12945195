"""A score has one home."""

import ast
import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from inputgrad import losses, registry, tasks
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context, Forward
from inputgrad.tasks import TASKS, Classification, Regression

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 0, 2, 0])
PREDICTED = torch.tensor([[1.0, 0.0], [2.0, -2.0], [0.0, 0.0]], dtype=torch.float64)
TARGETS = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
ROOT = Path(__file__).parents[2]


def test_targets_say_their_task():
    assert tasks.of(CLASSES) is tasks.named("classification") is Classification
    assert tasks.of(TARGETS) is tasks.of(TARGETS.half()) is tasks.named("regression") is Regression
    with pytest.raises(UserError, match="no task 'regresion'; did you mean 'regression'"):
        tasks.named("regresion")


def test_losses():
    expected = [float(torch.log(row.exp().sum()) - row[y]) for row, y in zip(LOGITS, CLASSES, strict=True)]
    assert tasks.losses(LOGITS, CLASSES).tolist() == pytest.approx(expected)
    assert tasks.losses(PREDICTED, TARGETS, "mse").tolist() == [0.5, 4.0, 5.0]
    one = torch.tensor([1.0, 2.0, 3.0])
    assert tasks.losses(one[:, None], torch.zeros(3)).tolist() == [1.0, 4.0, 9.0]  # (N, 1) against (N,)


def test_scores_and_what_is_wrong():
    assert Classification.broken(LOGITS, CLASSES).tolist() == [False, True, False, False]
    assert Classification.score(LOGITS, CLASSES) == 0.75
    assert Regression.broken(PREDICTED, TARGETS).tolist() == [False] * 3
    assert Regression.score(PREDICTED, TARGETS) == pytest.approx((19 / 6) ** 0.5)
    assert Regression.score(PREDICTED[:, :1], TARGETS[:, 0]) == pytest.approx((14 / 3) ** 0.5)


@pytest.mark.parametrize(("outputs", "y"), [(LOGITS, CLASSES), (PREDICTED, TARGETS)], ids=["classes", "numbers"])
def test_the_score_of_the_harm_is_the_score_of_the_outputs(outputs, y):
    task = tasks.of(y)
    each = {"broken": task.broken(outputs, y), "loss_after": task.losses(outputs, y)}[task.harm].double()
    frame = pd.DataFrame([each.numpy()])
    assert float(task.score_of_harm(frame.mean(axis=1))[0]) == pytest.approx(task.score(outputs, y))
    parts = float(task.parts_of_score(frame).mean(axis=1)[0])  # up to the root of a mean of squares
    assert parts == pytest.approx(task.score(outputs, y) ** (1 if task.has_classes else 2))


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_more_harm_is_a_worse_score(task):
    harm = pd.Series([0.2, 0.3])
    before, after = task.score_of_harm(harm)
    assert task.better * (after - before) < 0


def test_relative_harm():
    broken, clean = pd.Series([True, False, True]), pd.Series([False] * 8)
    assert Classification.relative_harm(broken, clean) == 2 / 8  # an attack saw three of eight
    assert Regression.relative_harm(pd.Series([9.0, 27.0]), pd.Series([1.0, 3.0])) == 3.0


def test_outputs_and_pictures():
    assert Classification.count_outputs(np.array([0, 4, 2])) == 5
    assert Regression.count_outputs(np.zeros((7, 2))) == 2
    assert Classification.shown(torch.tensor([3, 1, 3, 0, 1, 2]), 3).tolist() == [3, 1, 5]
    assert Regression.shown(torch.zeros(5, 1), 3).tolist() == [0, 1, 2]
    assert Regression.shown(torch.zeros(2, 1), 3).tolist() == [0, 1]


def at(outputs, y, task=None):
    return Forward(nn.Identity(), outputs, y, context=Context(task=task))


@pytest.mark.parametrize("of", ["true_logit", "log_probabilities"])
def test_what_needs_classes_is_refused_without_them(of):
    assert at(LOGITS, CLASSES).values_of(LOGITS, of).shape == (4,)
    with pytest.raises(UserError, match=f"of: {of} needs classes; for regression use 'loss' or 'outputs'"):
        at(PREDICTED, TARGETS).values_of(PREDICTED, of)


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_one_object_each_also_in_a_copy_and_another_process(task):
    assert copy.deepcopy(task) is pickle.loads(pickle.dumps(task)) is task


def test_no_other_file_decides_by_the_name_of_a_task():
    """Else a third task would be an edit of all of them. A search has its own words yet."""
    stated = {f"pipeline/data/{name}.py" for name in registry.names("pipeline.data")}
    named = [*registry.names("inputgrad.losses"), "_residual", "_score"]
    stated |= {f"inputgrad/losses/{name}.py" for name in named if name[0] == "_" or "tasks" in vars(losses.load(name))}
    searching = {f"pipeline/search/{name}.py" for name in ("command", "figures")}  # "accuracy" and "RMSE" only
    searching |= {"inputgrad/cli.py", "inputgrad/scan/names.py"}  # choices without torch; words of other people's code
    files = [file for package in ("inputgrad", "pipeline") for file in (ROOT / package).rglob("*.py")]
    found = {str(file.relative_to(ROOT)) for file in files if named_in(file)}
    assert found - searching == {"inputgrad/tasks.py", *stated}


def named_in(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    words = r"\b(classification|regression|accuracy|rmse)\b"
    return any(re.search(words, node.value, re.IGNORECASE) for node in strings if id(node) not in documentation)
