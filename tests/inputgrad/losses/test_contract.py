"""The one table that every loss passes, found by name: a new file in inputgrad/losses/ needs no edit here."""

import copy
from functools import cache

import pytest
import torch
from torch import nn

from inputgrad import audit, losses
from inputgrad.gradients.forward import Context, Forward
from tests.inputgrad.losses.bench import (
    ASKS_NO_GRADIENT,
    EVERY_LOSS,
    N,
    batch,
    cases,
    draws,
    gradients,
    make,
    net,
    row_draws,
)

every_case = pytest.mark.parametrize(("name", "task"), cases())


def test_the_table_is_not_empty():
    assert {"standard", "detached_norm", "gradient_norm", "gradient_direction", "fgsm"} <= set(EVERY_LOSS)


@every_case
def test_1_without_strength_it_is_standard_bit_for_bit(name, task):
    model, (x, y, context) = net(task), batch(task)
    # where a paper trains on perturbed inputs alone, nothing is left without a strength: give the task its weight
    zero = make(name, strength=0, **({"task_weight": 1.0} if "task_weight" in losses.load(name).model_fields else {}))
    plain = losses.load("standard")()
    weight = zero.weight_of_task
    assert torch.equal(zero(model, x, y, context, draws()), weight * plain(model, x, y))
    assert torch.equal(
        gradients(zero(model, x, y, context, draws()), model), weight * gradients(plain(model, x, y), model)
    )


@every_case
def test_1_the_term_is_finite_and_not_negative(name, task):
    model, (x, y, context) = net(task), batch(task)
    loss = make(name)
    term = loss.term(loss.forward(model, x, y, context, draws()))
    assert term.shape == (N,)
    assert torch.isfinite(term).all()
    assert (term >= -1e-15).all()  # a divergence may round below zero
    if name in ("gradient_direction", "gradient_alignment"):
        assert (term <= 2 + 1e-12).all()


@every_case
def test_1_the_total_is_the_task_once_plus_strength_times_the_term(name, task):
    model, (x, y, context) = net(task), batch(task)
    loss = make(name)
    parts = loss.parts(loss.forward(model, x, y, context, draws()))
    plain = losses.load("standard")()(model, x, y)
    term = 0 if parts.term is None else loss.strength * parts.term.mean()
    torch.testing.assert_close(loss(model, x, y, context, draws()), loss.weight_of_task * plain + term)
    torch.testing.assert_close(parts.task.mean(), plain)


VERDICTS = {"standard": "independent", "elle": "independent"} | dict.fromkeys(
    ("detached_norm", "detached_target", "detached_derivative"), "detached"
)
VERDICTS |= dict.fromkeys(
    ("fgsm", "nfgsm", "pgd", "trades", "finite_difference"), "moves its inputs along the gradient"
)
"""What the audit says of a loss; of all others: it depends on the input gradient."""


@cache
def audited(loss, task):
    """The instrument that a user has, on the loss as it stands in the table."""
    return audit(loss, net(task), *batch(task))


@every_case
def test_2_the_audit_finds_what_the_term_is_and_the_controls_are_not(name, task):
    assert audited(make(name), task).kind == VERDICTS.get(name, "depends")
    assert audited(make(name), task).depends == (name not in ASKS_NO_GRADIENT)


@every_case
def test_3_the_audit_finds_nothing_else_to_say(name, task):
    """The parameter gradient agrees with a central difference, no side effects, equal at twice the batch, and so on."""
    if name not in ASKS_NO_GRADIENT:
        found = audited(make(name), task)
        measured = {row.name: row.figure for row in found.rows if row.ok}
        assert [row for row in found.rows if row.ok is False] == []
        assert {"training follows it too", "no side effects"} <= set(measured)
        assert float(measured["the parameter gradient is right"].removeprefix("relative gap ")) < 1e-5


@every_case
@pytest.mark.parametrize("index", [[*range(N), *range(N)], [3, 1, 5, 0, 2, 4]], ids=["doubled", "permuted"])
def test_4_the_batch_repeated_or_permuted_changes_nothing(name, task, index):
    model, (x, y, context) = net(task), batch(task)
    loss, index = make(name), torch.tensor(index)
    once = loss(model, x, y, context, draws())
    again = loss(model, x[index], y[index], context.of(index), row_draws(index))
    torch.testing.assert_close(again, once, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(again, model), gradients(once, model), rtol=1e-8, atol=1e-11)


@every_case
def test_5_inputs_on_the_bounds_are_moved_like_any_other(name, task):
    """A clamp inside the graph has no gradient there: most pixels of an image would be left out of the attack."""
    model, (x, y, context) = net(task), batch(task)
    x = (x > 0.5).to(x)
    exact, loose = (
        Context(**vars(context) | {"bounds": (0.0, 1.0)}),
        Context(**vars(context) | {"bounds": (-1e-9, 1 + 1e-9)}),
    )
    torch.testing.assert_close(
        make(name)(model, x, y, exact, draws()), make(name)(model, x, y, loose, draws()), rtol=1e-6, atol=1e-9
    )


@every_case
def test_6_nothing_else_changes(name, task):
    model, (x, y, context) = net(task), batch(task)
    model.append(nn.Sequential(nn.Dropout(0.0)).eval())  # a mixed mode that must survive as it is
    for k, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, float(k))
    next(model.parameters()).requires_grad_(False)
    modes = [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    weights = copy.deepcopy(model.state_dict())
    inputs, state = x.clone(), torch.get_rng_state()

    make(name)(model, x, y, context, draws())

    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    for k, p in enumerate(model.parameters()):
        assert torch.equal(p.grad, torch.full_like(p, float(k)))
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert torch.equal(x, inputs)
    assert not x.requires_grad
    assert x.grad is None
    assert torch.equal(torch.get_rng_state(), state)


@every_case
def test_6_inner_passes_leave_batchnorm_alone(name, task):
    """Running statistics follow the passes that carry the graph (two at most), never the steps of an attack."""
    outputs = 3 if task == "classification" else 1
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.SiLU(), nn.Flatten(), nn.Linear(16, outputs)).double().train()
    x, y, context = batch(task)
    make(name)(model, x, y, context, draws())
    assert int(norm.num_batches_tracked) <= 2


@every_case
@pytest.mark.parametrize(("precision", "bound"), [("float32", 2e-3), ("bfloat16", 0.1)])
def test_7_lower_precision_agrees(name, task, precision, bound):
    exact = make(name)(net(task), *batch(task), draws())
    x, y, context = batch(task, torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        value = make(name)(net(task, torch.float32), x, y, context, draws())
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(exact), rel=bound)


@every_case
def test_7_lower_precision_trains_the_same_parameters(name, task):
    """Also with torch 2.6, whose autocast keeps what a pass under no_grad has cast: weights without their graph."""
    reached = {}
    for precision in (torch.float32, torch.bfloat16):
        model, (x, y, context) = net(task, torch.float32), batch(task, torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            value = make(name)(model, x, y, context, draws())
        value.backward()
        reached[precision] = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached[torch.bfloat16] == reached[torch.float32] == {key for key, _ in model.named_parameters()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@every_case
def test_7_cpu_and_gpu_agree(name, task):
    x, y, context = batch(task)
    loss = make(name)
    here = loss(net(task), x, y, context, draws())
    there = loss(net(task).cuda(), x.cuda(), y.cuda(), context.to("cuda"), draws())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_a_file_says_where_it_comes_from_and_what_to_search(name):
    loss = losses.load(name)
    assert loss.__doc__
    assert "mean(l" in loss.__doc__
    assert set(loss.search) <= set(loss.model_fields)
    assert all(0 < r.low < r.high for r in loss.search.values())


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_no_loss_imports_another(name):
    """A stage depends on its loss's own file: code shared by two losses belongs to a shared module."""
    source = __import__("inspect").getsource(__import__("sys").modules[losses.load(name).__module__])
    assert not any(f"losses.{other} import" in source for other in EVERY_LOSS)


def test_a_pass_is_computed_once():
    model, (x, y, context) = net("classification"), batch("classification")
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    loss = make("gradient_norm")
    loss(model, x, y, context).backward()
    assert len(calls) == 1


def test_targets_are_never_broadcast():
    x, y, _ = batch("regression")
    at = Forward(net("regression"), x, y[:, 0])  # (N,) against outputs (N, 1)
    assert torch.equal(at.losses, Forward(net("regression"), x, y).losses)
