"""What a loss gives in somebody's own loop: fresh random numbers, a whole graph, counted steps, 16 bits."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inputgrad import (
    ELLE,
    FGSM,
    NFGSM,
    PGD,
    TRADES,
    CompiledStep,
    Context,
    Curvature,
    Draws,
    FiniteDifference,
    GradientAlignment,
    GradientNorm,
    JacobianNorm,
    LocalLinearity,
    Stacked,
    StackedStep,
    Step,
    UserError,
)


def net(inputs=6, outputs=4, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.SiLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, outputs)).to(
        dtype
    )


def batch(n=8, d=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(4, (n,), generator=generator)


def gradients(total, parameters):
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(parameters))])


def gap(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


# random numbers


@pytest.mark.parametrize("step", [False, True])
def test_the_jacobians_own_loop_ends_where_the_exact_term_ends(step):
    """One random direction for ever would leave all others free: the mean of ½‖J‖² then ends at hundreds."""
    ends = {}
    for projections in (1, -1):
        torch.manual_seed(0)
        model, (x, y) = net(10, 10), (torch.rand(64, 10), torch.randint(10, (64,)))
        optimizer, loss = (
            torch.optim.Adam(model.parameters(), 0.01),
            JacobianNorm(strength=0.3, projections=projections),
        )
        stepped = Step(loss, model)
        for number in range(600):
            rows = slice(4 * number % 64, 4 * number % 64 + 4)
            if step:
                stepped(x[rows], y[rows])
            else:
                optimizer.zero_grad()
                loss(model, x[rows], y[rows]).backward()
            optimizer.step()
        jacobian = torch.func.vmap(torch.func.jacrev(model))(x)
        ends[projections] = float(jacobian.detach().square().sum((1, 2)).mean()) / 2
    assert ends[1] < 2 * ends[-1] < 2


DRAW = (JacobianNorm(), GradientNorm(share=0.5), FGSM(random_start=True), TRADES(), ELLE(strength=1e6))


@pytest.mark.parametrize("loss", DRAW)
def test_every_call_draws_fresh_numbers_which_a_seed_repeats(loss):
    model, (x, y) = net(), batch()
    torch.manual_seed(5)
    first, second = loss(model, x, y), loss(model, x, y)
    torch.manual_seed(5)
    assert torch.equal(first, loss(model, x, y))
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    given = [loss(model, x, y, draws=Draws(torch.Generator().manual_seed(2))) for _ in range(2)]
    assert torch.equal(*given)
    assert torch.equal(torch.get_rng_state(), state)


def test_stacked_nets_draw_fresh_numbers_each():
    models, (x, y) = [net(), net()], batch()
    step = StackedStep(JacobianNorm(strength=1.0), models)
    assert isinstance(step.model, Stacked)
    seen = [step(torch.stack([x, x]), torch.stack([y, y])).term for _ in range(2)]
    assert not torch.equal(*seen)


# the graph in front of x

MOVED = (FGSM(), PGD(steps=2), NFGSM(), TRADES(steps=2), ELLE(), FiniteDifference(), Curvature(), LocalLinearity())
LOSSES = (*MOVED, GradientNorm(), JacobianNorm(), GradientAlignment(), GradientNorm(share=0.5))
LOSSES = (*LOSSES, GradientAlignment(on={"epsilon": 0.1}))


class Shifted(nn.Module):
    """A net whose input is moved by a trained vector: what an encoder in front does, inside the model."""

    def __init__(self, net, shift):
        super().__init__()
        self.net, self.shift = net, shift

    def forward(self, x):
        return self.net(x + self.shift)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{type(loss).__name__}-{loss.share}-{bool(loss.on)}")
def test_what_lies_in_front_of_x_is_trained_as_if_it_lay_inside_the_model(loss):
    head, (x, y) = net(dtype=torch.float64), batch(dtype=torch.float64)
    shift = nn.Parameter(torch.zeros(6, dtype=torch.float64))

    def of(model, x):
        return loss(model, x, y, draws=Draws(torch.Generator().manual_seed(3)))

    wanted = gradients(of(Shifted(head, shift), x), [shift])
    found = gradients(of(head, x + shift), [shift])
    assert float(wanted.abs().max()) > 1e-8
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


def test_an_encoder_gets_the_textbooks_gradient():
    encoder, head, (x, y) = net(6, 5, torch.float64), net(5, 4, torch.float64), batch(dtype=torch.float64)
    z = encoder(x)
    task = F.cross_entropy(head(z), y, reduction="none")
    (g,) = torch.autograd.grad(task.sum(), z, create_graph=True)
    wanted = gradients(task.mean() + 0.5 * g.square().sum(1).mean(), encoder.parameters())
    parameters = [*encoder.parameters()]
    found = gradients(GradientNorm(strength=0.5)(head, encoder(x), y), parameters)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)
    Step(GradientNorm(strength=0.5), head)(encoder(x), y)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in parameters]), wanted, rtol=1e-13, atol=0)
    with pytest.raises(UserError, match=r"weights of the model alone; fix: put what lies in front of x into the model"):
        CompiledStep(GradientNorm(), head)(encoder(x), y)


def test_an_x_that_requires_no_gradient_is_left_as_it_is():
    model, (x, y) = net(), batch()
    GradientNorm()(model, x, y).backward()
    assert not x.requires_grad
    assert x.grad is None


# every and ramp


def test_a_step_counts_for_every_and_ramp():
    model, (x, y) = net(), batch()
    step = Step(GradientNorm(strength=0.5, every=3, ramp=2), model, steps_per_epoch=4)
    terms, tasks, totals = [], [], []
    for _ in range(10):
        taken = step(x, y)
        terms.append(taken.term), tasks.append(taken.task), totals.append(taken.total)
    assert [number for number, term in enumerate(terms) if term is not None] == [3, 6, 9]  # at 0 the ramp is at 0
    for number, weight in ((3, 0.5 * 3 * 3 / 8), (6, 0.5 * 3 * 6 / 8), (9, 0.5 * 3)):
        torch.testing.assert_close(totals[number], tasks[number] + weight * terms[number])
    with pytest.raises(UserError, match=r"a ramp is counted in epochs; fix: Step\(..., steps_per_epoch"):
        Step(GradientNorm(ramp=2), model)(x, y)


def test_a_compiled_step_counts_too():
    model, (x, y) = net(), batch()
    step = CompiledStep(GradientNorm(strength=0.5, every=2), model)
    step.compiled = step.gradients  # the counting alone
    assert [step(x, y).term is None for _ in range(4)] == [False, True, False, True]


@pytest.mark.parametrize("loss", [GradientNorm(every=4), GradientNorm(ramp=3)])
def test_a_plain_call_refuses_what_it_cannot_count(loss):
    model, (x, y) = net(), batch()
    with pytest.raises(UserError, match=r"fix: take step = inputgrad.Step\(loss, model\), or give strength=loss"):
        loss(model, x, y)
    plain = GradientNorm(strength=loss.strength_at(0, 1.0))(model, x, y)
    assert torch.equal(loss(model, x, y, strength=loss.strength_at(0, 1.0)), plain)


# 16 bits


def at_precision(loss, model, x, y, kind):
    torch.manual_seed(3)
    with torch.autocast("cpu", kind, enabled=kind is not None):
        total = loss(model, x, y, draws=Draws())
    return gradients(total, model.parameters())


SUBTRACT = (FiniteDifference(), FiniteDifference(p=1), LocalLinearity(), Curvature(), ELLE(), GradientAlignment())


@pytest.mark.parametrize("loss", [*SUBTRACT, GradientNorm(), JacobianNorm(), PGD(steps=2)])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_under_autocast_a_loss_is_no_worse_than_the_plain_one(loss, kind):
    """Twice the error of cross-entropy itself, in the gradient of the parameters; a term that subtracts adds none."""
    model, (x, y) = net(), batch(32)
    plain = GradientNorm(strength=0)
    error = gap(at_precision(plain, model, x, y, kind), at_precision(plain, model, x, y, None))
    heavy = loss.model_copy(update={"strength": 10.0})
    found = gap(at_precision(heavy, model, x, y, kind), at_precision(heavy, model, x, y, None))
    assert found <= (1e-6 if loss.subtracts_passes else 3 * error)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_net_in_16_bits_has_its_penalty_in_32(kind):
    model = net()
    with torch.no_grad():
        model[0].weight *= 1e-3  # an input gradient of about 1e-4
    model, (x, y) = model.to(kind), batch()
    loss = GradientNorm()
    term = loss.parts(loss.forward(model, x.to(kind), y)).term
    exact = copy.deepcopy(model).double()
    wanted = loss.parts(loss.forward(exact, x.to(kind).double(), y)).term
    assert term.dtype == torch.float32
    assert 1e-10 < float(wanted.mean()) < 1e-7
    assert float(term.mean()) == pytest.approx(float(wanted.mean()), rel=0.05)


@pytest.mark.parametrize("loss", SUBTRACT)
def test_a_term_that_subtracts_passes_refuses_weights_in_16_bits(loss):
    model, (x, y) = net(dtype=torch.bfloat16), batch(dtype=torch.bfloat16)
    with pytest.raises(UserError, match=r"its 16 bits round away; fix: keep the weights in float32"):
        loss(model, x, y)


# the task


def test_targets_in_doubt_are_refused_and_what_is_said_holds():
    torch.manual_seed(0)
    model, x = nn.Linear(5, 3), torch.rand(6, 5)
    soft = torch.softmax(torch.randn(6, 3), 1)
    loss = GradientNorm(strength=0)
    for y in (soft, soft.bfloat16(), soft + 1, (soft > 0.4).float()):
        with pytest.raises(
            UserError, match=r"3 floating-point numbers for every example.*fix: say which, Context\(task="
        ):
            loss(model, x, y)
    outputs = model(x)
    said = {
        "ce": F.cross_entropy(outputs, soft),
        "bce": F.binary_cross_entropy_with_logits(outputs, soft),
        "mse": F.mse_loss(outputs, soft),
    }
    for name, wanted in said.items():
        torch.testing.assert_close(loss(model, x, soft, Context(task=name)), wanted)
        rounded = loss(model, x, soft.bfloat16(), Context(task=name))
        assert float(rounded) == pytest.approx(float(wanted), rel=1e-2)
    with pytest.raises(UserError, match="no task loss 'msE'; did you mean 'mse'"):
        Context(task="msE")


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_a_squeezed_regression(shape):
    """Outputs (N,) and (N, 1) are the same one number, with every loss that works on them."""
    torch.manual_seed(0)
    inner, x, y = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), torch.rand(6, 5), torch.randn(6)

    class Reshaped(nn.Module):
        def forward(self, x):
            return inner(x).reshape(-1, *shape[1:])

    mask = Context(mask=torch.ones(5), direction=torch.ones(5))
    for loss in (*LOSSES, GradientNorm(of="outputs"), JacobianNorm(projections=-1)):
        seen = [loss(m, x, y, mask, Draws(torch.Generator().manual_seed(0))) for m in (inner, Reshaped())]
        torch.testing.assert_close(*seen)
    with pytest.raises(UserError, match=r"outputs of shape \(6, 3\) do not fit targets of shape \(3, 6\)"):
        GradientNorm()(nn.Linear(5, 3), x, torch.randn(3, 6), Context(task="mse"))


def test_floats_that_are_labels_of_one_logit_are_refused_unless_it_is_said():
    model, x, y = nn.Linear(5, 1), torch.rand(4, 5), torch.tensor([0.0, 1.0, 1.0, 0.0])
    with pytest.raises(UserError, match=r"targets that are 0.0 and 1.0 alone.*fix: say which"):
        GradientNorm()(model, x, y)
    wanted = F.binary_cross_entropy_with_logits(model(x)[:, 0], y)
    torch.testing.assert_close(GradientNorm(strength=0)(model, x, y, Context(task="bce")), wanted)
    torch.testing.assert_close(GradientNorm(strength=0)(model, x, y.bool()), wanted)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_class_numbers_of_any_integer_type(kind):
    model, (x, y) = net(), batch()
    assert torch.equal(GradientNorm()(model, x, y.to(kind)), GradientNorm()(model, x, y))


def test_labels_that_are_left_out_count_as_in_pytorch():
    torch.manual_seed(0)
    model, x = nn.Conv2d(1, 3, 1), torch.rand(4, 1, 5, 5)
    y = torch.randint(3, (4, 5, 5))
    y[0, :4] = y[2, 1] = -100
    torch.testing.assert_close(GradientNorm(strength=0)(model, x, y), F.cross_entropy(model(x), y))
    line, (x, labels) = net(), batch()
    labels[2:5] = -100
    torch.testing.assert_close(GradientNorm(strength=0)(line, x, labels), F.cross_entropy(line(x), labels))


# what else would be wrong without a word


@pytest.mark.parametrize("loss", SUBTRACT, ids=lambda loss: f"{type(loss).__name__}-{getattr(loss, 'p', '')}")
def test_passes_that_are_compared_drop_the_same_units(loss):
    """With Dropout the term is that of the net without the units that it dropped: two masks would be its difference."""
    x, y = batch(6, dtype=torch.float64)
    first, last, drop = nn.Linear(6, 16).double(), nn.Linear(16, 4).double(), nn.Dropout(0.5)
    model = nn.Sequential(first, nn.Tanh(), drop, last).train()
    torch.manual_seed(7)
    mask = drop(torch.ones(6, 16, dtype=torch.float64))

    class Masked(nn.Module):
        def forward(self, x):
            return last(first(x).tanh() * (mask if len(x) == 6 else mask.repeat_interleave(3, 0)))

        def train(self, mode=True):
            return super().train(mode)

    def term(model):
        torch.manual_seed(7)
        return loss.parts(loss.forward(model, x, y, draws=Draws(torch.Generator().manual_seed(1)))).term

    if isinstance(loss, LocalLinearity):  # its ascent runs in eval mode, without Dropout: another point
        assert float(term(model).detach().mean()) < 3 * float(term(Masked()).detach().mean())
    else:
        torch.testing.assert_close(term(model), term(Masked()), rtol=1e-9, atol=1e-12)
    with pytest.raises(UserError, match="must drop the same units, which no graph can hold; fix: do not compile"):
        CompiledStep(loss, model)


def test_a_confident_example_is_moved_by_h_and_no_further():
    """The squares of its gradient underflow in float32: the direction once had a length of 1e15."""
    model, x = nn.Linear(1, 2, bias=False), torch.ones(1, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[30.0], [-30.0]]))
    for p in (1, 2, "inf"):
        term = FiniteDifference(p=p).term(FiniteDifference(p=p).forward(model, x, torch.tensor([0])))
        assert float(term.detach()) < 1e-12


@pytest.mark.parametrize(("share", "n"), [(0.5, 1), (0.99, 10)])
def test_a_share_that_rounds_to_the_whole_batch(share, n):
    model, (x, y) = net(), batch(n)
    torch.testing.assert_close(GradientNorm(share=share)(model, x, y), GradientNorm()(model, x, y))


def test_bounds_the_wrong_way_round_are_refused():
    with pytest.raises(UserError, match=r"bounds \(1, 0\) hold nothing; fix: give \(lowest, highest\)"):
        Context(bounds=(1, 0))


def test_examples_of_a_step_join_those_of_the_context():
    from inputgrad import RightReasons

    model, (x, y) = net(), batch()
    mask = torch.ones(8, 6)
    step = Step(RightReasons(), model, Context(examples={"mask": mask}))
    taken = step(x, y, examples={"weight": torch.ones(8)})
    assert taken.term is not None
    assert float(taken.term) > 0
