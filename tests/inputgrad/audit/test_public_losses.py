"""Losses as they are written in public repositories and threads, in our own words: each decided as its reader would.

A docstring names the kind of source. The list is of shapes of code, not of projects: states that a loss keeps, names
imported as `grad`, passes inside a model, forward mode, torch.func, hidden layers, weights as inputs.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import autograd, nn
from torch.autograd import Variable, grad
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vmap
from torch.nn import functional as F

from inputgrad import audit

MOVES = "moves its inputs along the gradient"
CASES = {}


def case(kind):
    def add(build):
        CASES[build.__name__] = (kind, build)
        return build

    return add


def mlp(*sizes, act=nn.Tanh):
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1])


def slope(u, x, graph=True):
    return grad(u, x, torch.ones_like(u), create_graph=graph, retain_graph=True)[0]


def classes(n=8, c=4):
    return torch.randint(0, c, (n,))


@case("depends")
def path_length():
    """StyleGAN2's path lengths: the gradient at a hidden latent, against a running mean that the object keeps."""

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.mapping, self.synthesis = mlp(3, 8, 8), mlp(8, 12, 12)

        def forward(self, z):
            self.latents = self.mapping(z)
            return self.synthesis(self.latents).reshape(-1, 3, 2, 2)

    class PathLength:
        def __init__(self):
            self.mean = 0.0

        def __call__(self, generator, z, y):
            fake = generator(z)
            noise = torch.randn_like(fake) / math.sqrt(fake[0, 0].numel())
            (g,) = autograd.grad((fake * noise).sum(), generator.latents, create_graph=True)
            lengths = (g.square().mean(1) + 1e-8).sqrt()
            mean = self.mean + 0.01 * (lengths.mean() - self.mean)
            self.mean = mean.detach()
            return 2 * (lengths - mean).square().mean()

    return PathLength(), Generator(), torch.randn(8, 3), None


@case("depends")
def scaled_r1():
    """R1 whose loss is scaled up for half precision and scaled back after, with Variable, on the critic's name."""

    def loss(critic, real, fake):
        reals = Variable(real, requires_grad=True)
        scores = critic(reals)
        up = torch.exp(torch.tensor(3.0, dtype=real.dtype))
        (g,) = grad(scores.sum() * up, reals, create_graph=True)
        r1 = (g / up).flatten(1).square().sum(1).mean()
        return F.softplus(critic(fake)).mean() + F.softplus(-scores).mean() + 5 * r1

    return loss, mlp(3, 16, 1), torch.randn(8, 3), torch.randn(8, 3)


@case("detached")
def void_r1_and_r2():
    """Both zero-centred penalties, `grad(score, reals)[0]` and nothing else."""

    def penalty(critic, x):
        x = Variable(x, requires_grad=True)
        return grad(critic(x).sum(), x)[0].flatten(1).square().sum()

    def loss(critic, real, fake):
        return (critic(fake) - critic(real)).mean() + penalty(critic, real) + penalty(critic, fake)

    return loss, mlp(3, 16, 1), torch.randn(8, 3), torch.randn(8, 3)


@case("depends")
def generator_and_critic():
    """WGAN-GP with the generator inside, (G, D) in one tuple."""

    def loss(models, noise, real):
        generator, critic = models
        fake = generator(noise).detach()
        mix = torch.rand(len(real), 1).to(real)
        between = (mix * real + (1 - mix) * fake).requires_grad_(True)
        g = slope(critic(between), between)
        return critic(fake).mean() - critic(real).mean() + 10 * (g.norm(2, dim=1) - 1).square().mean()

    return loss, (mlp(2, 8, 3), mlp(3, 8, 1)), torch.randn(8, 2), torch.randn(8, 3)


@case("independent")
def generator_step():
    """The other half of the same step: no penalty is in the generator's loss."""

    def loss(generator, critic, noise, real):
        return -critic(generator(noise)).mean() + 0 * real.mean()

    return loss, (mlp(2, 8, 3), mlp(3, 8, 1)), torch.randn(8, 2), torch.randn(8, 3)


@case("depends")
def implicit_geometry():
    """IGR: points on the surface with normals, points around it with an eikonal term, as a module."""

    class Geometry(nn.Module):
        def forward(self, net, points, normals):
            points = points.requires_grad_()
            around = (points.detach() + 0.3 * torch.randn_like(points)).requires_grad_()
            on, off = net(points), net(around)
            g, h = slope(on, points), slope(off, around)
            eikonal = ((h.norm(2, dim=-1) - 1) ** 2).mean()
            return on.abs().mean() + 0.1 * eikonal + (g - normals).abs().norm(2, dim=1).mean()

    return Geometry(), mlp(3, 16, 16, 1, act=nn.Softplus), torch.randn(8, 3), F.normalize(torch.randn(8, 3))


@case("depends")
def siren_with_coordinates():
    """A model that gives (outputs, coordinates), so that the loss differentiates by what the model made a leaf."""

    class Siren(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(2, 16, 1)

        def forward(self, coords):
            coords = coords.clone().detach().requires_grad_(True)
            return {"out": torch.sin(3 * self.net(coords)), "in": coords}

    def loss(model, coords, truth):
        found = model(coords)
        return (slope(found["out"], found["in"]) - truth).square().sum(-1).mean()

    return loss, Siren(), torch.rand(8, 2), torch.randn(8, 2)


class Hamiltonian(nn.Module):
    """The time derivative comes from a gradient inside forward."""

    def __init__(self, graph=True):
        super().__init__()
        self.energy, self.graph = mlp(2, 16, 1), graph

    def forward(self, x):
        with torch.enable_grad():
            x = x.requires_grad_(True)
            g = autograd.grad(self.energy(x).sum(), x, create_graph=self.graph)[0]
        return torch.cat([g[:, 1:], -g[:, :1]], 1)


@case("depends")
def hamiltonian():
    """HNN: a loss on (outputs, targets), the gradient inside the model."""
    return lambda output, target: F.mse_loss(output, target), Hamiltonian(), torch.randn(8, 2), torch.randn(8, 2)


@case("depends")
def hamiltonian_method():
    """HNN as first published: the loss calls a method of the model, not the model."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = mlp(2, 16, 1)
            self.register_buffer("turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))

        def forward(self, x):
            return self.energy(x)

        def time_derivative(self, x):
            return autograd.grad(self.forward(x).sum(), x, create_graph=True)[0] @ self.turn.T

    def loss(model, x, dx):
        return (model.time_derivative(x.requires_grad_()) - dx).square().mean()

    return loss, Net(), torch.randn(8, 2), torch.randn(8, 2)


@case("depends")
def raw_weights_inside():
    """Forces inside a forward that uses its weights directly, no layer anywhere."""

    class Potential(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(16, 3))
            self.v = nn.Parameter(torch.randn(16) / 4)

        def forward(self, positions):
            positions = positions.detach().requires_grad_(True)
            energy = torch.tanh(positions @ self.w.T) @ self.v
            return energy, -autograd.grad(energy.sum(), positions, create_graph=True)[0]

    def loss(model, positions, forces):
        return (model(positions)[1] - forces).square().mean()

    return loss, Potential(), torch.randn(8, 3), torch.randn(8, 3)


@case("detached")
def forces_without_create_graph():
    """A force loss with retain_graph and `requires_grad_()` on the gradient, which silences the error."""

    def loss(model, positions, target):
        positions = positions.detach().requires_grad_(True)
        energy = model(positions)
        force = -grad(energy, positions, torch.ones_like(energy), retain_graph=True)[0]
        force.requires_grad_()
        return 0.01 * energy.square().mean() + (target - force).norm(dim=1).square().mean()

    return loss, mlp(3, 16, 1), torch.randn(8, 3), torch.randn(8, 3)


@case("detached")
def forces_in_a_model_in_eval_mode():
    """create_graph=self.training inside the model, whose mode nobody set back."""

    class Field(Hamiltonian):
        def forward(self, x):
            self.graph = self.training
            return super().forward(x)

    return lambda m, x, y: F.mse_loss(m(x), y), Field().eval(), torch.randn(8, 2), torch.randn(8, 2)


@case("depends")
def molecules_in_a_dict():
    """A batch of a dict, outputs in a dict, energies summed over the atoms of a molecule by index_add."""

    class Atoms(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.net = nn.Embedding(5, 4), mlp(7, 16, 1)

        def forward(self, inputs):
            each = self.net(torch.cat([self.embed(inputs["z"]), inputs["pos"]], 1))[:, 0]
            return {"energy": each.new_zeros(2).index_add(0, inputs["molecule"], each)}

    def loss(model, batch):
        batch["pos"].requires_grad_(True)
        energy = model(batch)["energy"]
        force = -grad(energy.sum(), batch["pos"], create_graph=True)[0]
        return F.mse_loss(energy, batch["energy"]) + 10 * F.mse_loss(force, batch["forces"])

    batch = {"z": torch.randint(0, 5, (6,)), "pos": torch.randn(6, 3), "molecule": torch.tensor([0, 0, 0, 1, 1, 1])}
    return loss, Atoms(), batch | {"energy": torch.randn(2), "forces": torch.randn(6, 3)}, None


@case("depends")
def lagrangian():
    """LNN: Hessian and gradient by torch.func inside vmap, a linear solve."""

    def loss(model, x, acceleration):
        def lagrangian(state):
            return model(state)[0] + state[1] ** 2

        def of(state):
            g, h = jacrev(lagrangian)(state), hessian(lagrangian)(state)
            return (g[0] - h[1, 0] * state[1]) / (h[1, 1] + 1)

        return (vmap(of)(x) - acceleration).square().mean()

    return loss, mlp(2, 16, 1, act=nn.Softplus), torch.randn(8, 2), torch.randn(8)


@case("depends")
def korteweg_de_vries():
    """A third derivative alone: u_xxx."""

    def loss(model, x, y):
        x = x.clone().requires_grad_(True)
        return (slope(slope(slope(model(x), x), x), x) - y).square().mean()

    return loss, mlp(1, 16, 1), torch.rand(8, 1), torch.randn(8, 1)


@case("depends")
def burgers_with_a_learnt_coefficient():
    """An inverse problem: the viscosity is a parameter of the loss's own module."""

    class Residual(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.viscosity = net, nn.Parameter(torch.tensor(0.1))

        def forward(self, batch):
            g = batch.clone()
            g.requires_grad = True
            u = self.net(g)
            d = slope(u, g)
            second = slope(d[:, [0]], g)[:, [0]]
            return F.mse_loss(d[:, [1]] + u * d[:, [0]], self.viscosity * second)

    model = Residual(mlp(2, 16, 1))
    return lambda m, x: m(x), model, torch.rand(8, 2), None


@case("partly detached")
def wave_with_one_constant_derivative():
    """u_tt carries a graph, u_xx does not: half of the residual is trained."""

    def loss(model, z, y):
        x, t = (z[:, [i]].clone().requires_grad_(True) for i in (0, 1))
        u = model(torch.cat([x, t], 1))
        return (slope(slope(u, t), t) - slope(slope(u, x), x, graph=False)).square().mean()

    return loss, mlp(2, 16, 1), torch.rand(8, 2), None


@case("depends")
def sliced_score_matching():
    """A gradient of (gradient · random direction), the score given by the model."""

    def loss(model, x):
        x = x.detach().requires_grad_(True)
        v = F.normalize(torch.rand_like(x), dim=1)
        score = model(x)
        (second,) = autograd.grad((score * v).sum(), x, create_graph=True)
        return ((second * v).sum(1) + score.square().sum(1) / 2).mean()

    return loss, mlp(3, 16, 3), torch.randn(8, 3), None


@case("depends")
def exact_score_matching():
    """The trace of a Jacobian by vmap(jacfwd(model))."""

    def loss(model, x):
        jacobian = vmap(jacfwd(lambda one: model(one[None])[0]))(x)
        return torch.einsum("bjj->b", jacobian).mean() + model(x).square().sum(1).mean() / 2

    return loss, mlp(3, 16, 3), torch.randn(8, 3), None


@case("independent")
def denoising_score_matching():
    """The score is the model's own output; noise moves the input, no gradient does."""

    def loss(model, x):
        time = torch.rand(len(x), 1).to(x)
        noise = torch.randn_like(x)
        return (model(torch.cat([x + time * noise, time], 1)) * time + noise).square().sum(1).mean()

    return loss, mlp(4, 16, 3), torch.randn(8, 3), None


@case("detached")
def half_of_score_matching():
    """The first half detached for evaluation and left so in training; the second without a graph."""

    def loss(energy, samples):
        samples.requires_grad_(True)
        score = autograd.grad(-energy(samples).sum(), samples, create_graph=True)[0]
        first = (score.norm(dim=-1) ** 2 / 2).detach()
        second = sum(autograd.grad(score[:, i].sum(), samples, retain_graph=True)[0][:, i] for i in range(3))
        return (first + second.detach()).mean() + energy(samples).mean() * 0.1

    return loss, mlp(3, 16, 1), torch.randn(8, 3), None


@case(MOVES)
def virtual_adversarial():
    """VAT: the prediction is a constant, the direction by power iteration and .backward(), zero_grad between."""

    class VAT(nn.Module):
        def forward(self, model, x):
            with torch.no_grad():
                pred = F.softmax(model(x), dim=1)
            d = F.normalize(torch.rand_like(x) - 0.5, dim=1)
            for _ in range(2):
                d.requires_grad_()
                F.kl_div(F.log_softmax(model(x + 10 * d), 1), pred, reduction="batchmean").backward()
                d = F.normalize(d.grad, dim=1)
                model.zero_grad()
            return F.kl_div(F.log_softmax(model(x + 0.5 * d), 1), pred, reduction="batchmean")

    return VAT(), mlp(3, 16, 4), torch.randn(8, 3), None


@case(MOVES)
def contrastive_divergence():
    """An energy model: negative samples by Langevin steps along the energy's gradient."""

    def loss(energy, x):
        z = torch.randn_like(x)
        for _ in range(5):
            z.requires_grad_(True)
            step = autograd.grad(energy(z).sum(), z)[0]
            with torch.no_grad():
                z = z - 0.1 * step + 0.01 * torch.randn_like(z)
        return energy(x).mean() - energy(z.detach()).mean()

    return loss, mlp(3, 16, 1, act=nn.SiLU), torch.randn(8, 3), None


@case(MOVES)
def saliency_guided():
    """The features of the smallest gradient are masked, and both predictions compared."""

    def loss(model, x, y):
        leaf = x.clone().requires_grad_(True)
        out = model(leaf)
        (g,) = autograd.grad(out.gather(1, y[:, None]).sum(), leaf, retain_graph=True)
        smallest = g.abs().argsort(1)[:, :2]
        masked = x.clone().scatter(1, smallest, torch.rand(len(x), 2).to(x))
        other = F.log_softmax(model(masked), 1)
        return F.cross_entropy(out, y) + F.kl_div(F.log_softmax(out, 1), other, log_target=True, reduction="batchmean")

    return loss, mlp(5, 16, 4), torch.randn(8, 5), classes()


@case(MOVES)
def attack_in_a_hidden_layer():
    """An adversarial step on the features between an encoder and a head."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = mlp(3, 8, 8), mlp(8, 8, 4)

        def forward(self, x):
            return self.head(self.encoder(x))

    def loss(model, x, y):
        h = model.encoder(x)
        (g,) = autograd.grad(F.cross_entropy(model.head(h), y), h, retain_graph=True)
        return F.cross_entropy(model.head(h + 0.1 * g.sign()), y)

    return loss, Net(), torch.randn(8, 3), classes()


@case("depends")
def expected_gradients():
    """An attribution prior: gradient × (x - reference) at a random point between them."""

    def loss(model, x, y):
        reference = x[torch.randperm(len(x))]
        at = (reference + torch.rand(len(x), 1).to(x) * (x - reference)).detach().requires_grad_(True)
        (g,) = grad(model(at).gather(1, y[:, None]).sum(), at, create_graph=True)
        attribution = ((x - reference) * g).abs().mean(0)
        return F.cross_entropy(model(x), y) + 0.1 * (attribution[1:] - attribution[:-1]).abs().sum()

    return loss, mlp(5, 16, 4, act=nn.ReLU), torch.randn(8, 5), classes()


@case("depends")
def grad_cam_supervision():
    """Class activation maps, supervised: the gradient at a feature map that a forward hook took."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 4))
    kept = {}
    net[2].register_forward_hook(lambda module, inputs, output: kept.update(map=output))

    def loss(model, x, y):
        out = model(x)
        (g,) = grad(out.gather(1, y[:, None]).sum(), kept["map"], create_graph=True)
        cam = F.relu((g.mean((2, 3), keepdim=True) * kept["map"]).sum(1))
        return F.cross_entropy(out, y) + cam[:, :2].mean()

    return loss, net, torch.rand(8, 1, 8, 8), classes()


@case("detached")
def grad_cam_by_hooks():
    """The same by tensor hooks and a first backward, as visualisation code does."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 4))
    kept = {}

    def forward(module, inputs, output):
        kept["map"] = output
        output.register_hook(lambda g: kept.update(grad=g))

    net[2].register_forward_hook(forward)

    def loss(model, x, y):
        out = model(x)
        out.gather(1, y[:, None]).sum().backward(retain_graph=True)
        model.zero_grad()
        cam = F.relu((kept["grad"].mean((2, 3), keepdim=True) * kept["map"]).sum(1))
        return F.cross_entropy(out, y) + (cam.detach() * 0.5).mean()

    return loss, net, torch.rand(8, 1, 8, 8), classes()


@case("detached")
def retained_gradient_of_a_hidden_layer():
    """`retain_grad()` on an activation, backward, and its .grad in the penalty."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 4)

        def forward(self, x):
            self.h = torch.tanh(self.first(x))
            if self.h.requires_grad:
                self.h.retain_grad()
            return self.last(self.h)

    def loss(model, x, y):
        task = F.cross_entropy(model(x), y)
        task.backward(retain_graph=True)
        return task + model.h.grad.square().sum()

    return loss, Net(), torch.randn(8, 3), classes()


@case("depends")
def jacobian_of_the_whole_batch():
    """torch.autograd.functional.jacobian(create_graph=True)."""

    def loss(model, x, y):
        j = autograd.functional.jacobian(lambda z: model(z).sum(0), x, create_graph=True)
        return F.cross_entropy(model(x), y) + 0.1 * j.square().sum()

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("depends")
def forward_mode():
    """A random directional derivative by torch.func.jvp."""

    def loss(model, x, y):
        out, along = jvp(model, (x,), (torch.randn_like(x),))
        return F.cross_entropy(out, y) + 0.1 * along.square().sum(1).mean()

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("depends")
def spectral_jacobian():
    """The largest singular value of the Jacobian by power iteration: constant vectors, a product with graph."""

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        out = model(x)
        u = F.normalize(torch.randn_like(out), dim=1)
        for _ in range(3):
            (v,) = autograd.grad(out, x, u, create_graph=True)
            w = torch.zeros_like(out, requires_grad=True)
            (back,) = autograd.grad(autograd.grad(out, x, w, create_graph=True)[0], w, v.detach(), retain_graph=True)
            u = F.normalize(back.detach(), dim=1)
        return F.cross_entropy(out, y) + 0.1 * autograd.grad(out, x, u, create_graph=True)[0].norm(dim=1).mean()

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("depends")
def contractive_encoder():
    """A contractive autoencoder: the encoder's Jacobian, row by row."""

    class Auto(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = mlp(5, 8, 3), mlp(3, 8, 5)

        def forward(self, x):
            h = self.encoder(x)
            return h, self.decoder(h)

    def loss(model, x, target):
        x = x.detach().requires_grad_(True)
        h, back = model(x)
        rows = [autograd.grad(h[:, k].sum(), x, create_graph=True)[0] for k in range(3)]
        return F.mse_loss(back, target) + 0.1 * sum(r.square().sum(1) for r in rows).mean()

    x = torch.randn(8, 5)
    return loss, Auto(), x, x


@case("independent")
def contractive_in_closed_form():
    """The same penalty from the weights and the activations: an input gradient that no autograd computed."""

    def loss(model, x, y):
        h = torch.sigmoid(model[0](x))
        slope_of_h = (h * (1 - h)).square()
        return F.mse_loss(model[1](h), y) + 0.1 * (slope_of_h @ model[0].weight.square().sum(1)).mean()

    x = torch.randn(8, 5)
    return loss, nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 5)), x, x


def adapted(model, x, y, steps=1, second=True):
    weights = dict(model.named_parameters())
    for _ in range(steps):
        task = F.cross_entropy(functional_call(model, weights, (x,)), y)
        found = autograd.grad(task, list(weights.values()), create_graph=second)
        weights = {k: w - 0.1 * g for (k, w), g in zip(weights.items(), found, strict=True)}
    return weights


@case("independent")
def meta_learning():
    """MAML with functional_call and two inner steps: gradients of weights, not of inputs."""

    def loss(model, x, y):
        return F.cross_entropy(functional_call(model, adapted(model, x[:4], y[:4], 2), (x[4:],)), y[4:])

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("independent")
def meta_learning_by_an_argument():
    """MAML whose net takes its weights as a list."""

    class Learner(nn.Module):
        def __init__(self):
            super().__init__()
            self.vars = nn.ParameterList([torch.randn(16, 3) / 2, torch.zeros(16), torch.randn(4, 16) / 4])

        def forward(self, x, vars=None):
            w = list(self.vars) if vars is None else vars
            return F.linear(torch.tanh(F.linear(x, w[0], w[1])), w[2])

    def loss(net, x, y):
        g = autograd.grad(F.cross_entropy(net(x[:4]), y[:4]), list(net.parameters()), create_graph=True)
        fast = [w - 0.4 * d for w, d in zip(net.parameters(), g, strict=True)]
        g = autograd.grad(F.cross_entropy(net(x[:4], fast), y[:4]), fast, create_graph=True)
        return F.cross_entropy(net(x[4:], [w - 0.4 * d for w, d in zip(fast, g, strict=True)]), y[4:])

    return loss, Learner(), torch.randn(8, 3), classes()


@case("independent")
def gradient_of_the_weights():
    """Domain generalisation: a penalty on the variance of parameter gradients between two environments."""

    def loss(model, x, y):
        parts = [F.cross_entropy(model(a), b) for a, b in zip(x.chunk(2), y.chunk(2), strict=True)]
        gs = [autograd.grad(part, list(model.parameters()), create_graph=True) for part in parts]
        return sum(parts) / 2 + sum((a - b).square().sum() for a, b in zip(*gs, strict=True))

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("depends")
def penalty_of_the_mean_loss():
    """CIFAR's double backprop as in a thread on its cost: grad of the mean loss, mean of squares times the batch."""

    def loss(model, x, y):
        x = Variable(x, requires_grad=True)
        task = nn.CrossEntropyLoss()(model(x), y)
        g = autograd.grad(task, x, create_graph=True, retain_graph=True, only_inputs=True)[0]
        return task + (g**2).mean() * len(x)

    return loss, mlp(3, 16, 4, act=nn.ReLU), torch.randn(8, 3), classes()


@case("detached")
def numpy_on_the_way():
    """create_graph is there; the norm is taken in NumPy."""

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        task = F.cross_entropy(model(x), y)
        (g,) = autograd.grad(task, x, create_graph=True)
        return task + float((g.detach().numpy() ** 2).sum())

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("detached")
def gradient_of_a_frozen_teacher():
    """The student is trained; the gradient that is penalised is the frozen encoder's."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = mlp(3, 8, 8).requires_grad_(False), nn.Linear(8, 4)

        def forward(self, x):
            return self.head(self.encoder(x))

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        h = model.encoder(x)
        (g,) = autograd.grad(h.sum(), x, create_graph=True)
        return F.cross_entropy(model.head(h), y) + g.square().sum()

    return loss, Net(), torch.randn(8, 3), classes()


@case("depends")
def jacobian_matching():
    """A student's input gradient against a teacher's, which is a constant by design."""
    teacher = mlp(3, 16, 4)

    def loss(student, x, y):
        leaf = x.float().detach().requires_grad_(True)
        wanted = autograd.grad(teacher(leaf).logsumexp(1).sum(), leaf)[0]
        x = x.detach().requires_grad_(True)
        g = autograd.grad(student(x).logsumexp(1).sum(), x, create_graph=True)[0]
        return F.cross_entropy(student(x), y) + (1 - F.cosine_similarity(g, wanted.to(g), dim=1)).mean()

    return loss, mlp(3, 16, 4), torch.randn(8, 3), classes()


@case("not finite")
def norm_by_a_power_of_one_half():
    """(g**2).sum() ** 0.5 on a net whose last layer starts at zero."""
    net = mlp(3, 8, 1)
    nn.init.zeros_(net[2].weight)

    def loss(model, x, y):
        x = x.detach().requires_grad_(True)
        out = model(x)
        (g,) = autograd.grad(out.sum(), x, create_graph=True)
        return F.mse_loss(out, y) + (((g**2).sum(1) ** 0.5 - 1) ** 2).mean()

    return loss, net, torch.randn(8, 3), torch.randn(8, 1)


@case("depends")
def transformers_outputs():
    """Word embeddings by keyword, outputs of an object with .logits and .loss, a mask next to the tokens."""

    class Output(dict):
        def __init__(self, **items):
            super().__init__(items)
            self.__dict__.update(items)

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.mix = nn.Embedding(20, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 4)

        def get_input_embeddings(self):
            return self.words

        def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, labels=None):
            e = self.words(input_ids) if inputs_embeds is None else inputs_embeds
            h = self.mix(e, e, e, key_padding_mask=attention_mask == 0, need_weights=True)[0]
            logits = self.out(h.mean(1))
            return Output(logits=logits, loss=None if labels is None else F.cross_entropy(logits, labels))

    def loss(model, batch):
        e = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_(True)
        found = model(inputs_embeds=e, attention_mask=batch["attention_mask"], labels=batch["labels"])
        (g,) = grad(found.loss, e, create_graph=True)
        return found.loss + g.square().sum()

    ids, mask = torch.randint(0, 20, (8, 5)), torch.ones(8, 5, dtype=torch.long)
    return loss, Bert(), {"input_ids": ids, "attention_mask": mask, "labels": classes()}, None


SAID = {
    "void_r1_and_r2": "without create_graph=True",
    "forces_without_create_graph": "retain_graph keeps the first graph",
    "grad_cam_by_hooks": "read from .grad",
    "numpy_on_the_way": "cut off afterwards",
    "gradient_of_a_frozen_teacher": "none of whose weights is trained",
    "wave_with_one_constant_derivative": "of which a part is cut off",
    "forces_in_a_model_in_eval_mode": "create_graph=model.training",
    "norm_by_a_power_of_one_half": "ε inside the root",
}
"""What the explanation of some of them says."""


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("name", CASES)
def test_public(name):
    kind, build = CASES[name]
    torch.manual_seed(0)
    found = audit(*build())
    assert found.kind == kind, str(found)
    assert found.depends == (kind in ("depends", MOVES))
    assert SAID.get(name, "") in " ".join(found.explanation.split())
