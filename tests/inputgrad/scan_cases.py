"""Sources for the tests of `inputgrad scan`: a heading with kind and name, then the code; `# <` ends what is found.

Code without a function or a loop is the body of loss(model, x, y), after the lines of LOSS.
"""

HEAD = """\
import torch
from torch import autograd, nn
from torch.autograd import Variable, grad
from torch.nn import functional as F
"""
LOSS = """\
def loss(model, x, y):
    x = x.clone().requires_grad_()
    out = model(x)
    task = F.cross_entropy(out, y)
"""

VOID = """\
## backward: the recipe
task.backward(retain_graph=True)
g = x.grad.clone()  # <
return task + g.norm()
## backward: no retain_graph
out.sum().backward()
return task + x.grad.square().sum()  # <
## backward: grad.data
task.backward(retain_graph=True)
return task + x.grad.data.norm()  # <
## no_graph: autograd.grad
(g,) = autograd.grad(task, x, retain_graph=True)  # <
return task + g.norm()
## no_graph: create_graph=False
g = grad(task, x, create_graph=False)[0]  # <
return task + (g**2).sum()
## no_graph: by keywords
g = grad(outputs=task, inputs=x)[0]  # <
n = g.flatten(1).norm(2, dim=1)
return ((n - 1) ** 2).mean()
## no_graph: a match
(g,) = grad(task, x, retain_graph=True)  # <
return task + F.mse_loss(g, y)
## no_graph: a criterion
(g,) = grad(task, x)  # <
return task + nn.MSELoss()(g, y)
## cut: detach
(g,) = grad(task, x, create_graph=True)
return task + (mask * g.detach()).square().sum()  # <
## item: float
(g,) = grad(task, x, create_graph=True)
return task + float(g.norm())  # <
## cut: numpy
(g,) = grad(task, x, create_graph=True)
n = g.cpu().detach().numpy()  # <
return task + (n**2).sum()
## no_grad: no_grad
(g,) = grad(task, x, create_graph=True)
with torch.no_grad():
    n = g.norm()  # <
return task + n
## no_grad: torch.func under no_grad
def loss(model, x):
    with torch.no_grad():
        s = torch.func.vmap(torch.func.grad(lambda p: model(p)[0]))(x)  # <
    return model(x).mean() + (s.norm(dim=1) - 1).square().mean()
## functional: jacobian
def loss(model, x):
    j = autograd.functional.jacobian(model, x)  # <
    return model(x).mean() + j.square().sum()
## backward: a step of a script
for x, y in loader:
    x.requires_grad_(True)
    task = F.cross_entropy(model(x), y)
    task.backward(retain_graph=True)
    g = x.grad  # <
    whole = task + 0.1 * g.norm()
    whole.backward()
## no_graph: a helper
def slope(u, x, graph=True):
    return grad(u.sum(), x, create_graph=graph)[0]  # <


def penalty(model, x):
    x.requires_grad_()
    return slope(model(x), x, graph=False).square().sum()
## no_graph: a method
class Critic(nn.Module):
    def slope(self, x):
        x = Variable(x, requires_grad=True)
        return grad(self.net(x).sum(), x)[0]  # <

    def training_step(self, batch, n):
        return self.net(batch).mean() + self.slope(batch).norm()
## no_graph: forward of a loss
class SlopeLoss(nn.Module):
    def forward(self, u, x):
        return grad(u.sum(), x)[0].abs().mean()  # <
## no_graph: a list of terms
terms = [task]
terms.append(grad(task, x, retain_graph=True)[0].norm())  # <
return sum(terms)
## no_graph: the loss of a dict
n = grad(task, x, retain_graph=True)[0].norm()  # <
return {'loss': task + n, 'norm': n}
## no_graph: a scaler
def fit(model, x, y, scaler):
    x.requires_grad_()
    task = F.mse_loss(model(x), y)
    g = grad(task, x, retain_graph=True)[0]  # <
    scaler.scale(task + g.square().mean()).backward()
"""

RIGHT = """\
## right: create_graph
(g,) = grad(task, x, create_graph=True)
return task + g.norm()
## right: backward with its graph
task.backward(create_graph=True)
return task + x.grad.norm()
## right: an unknown create_graph
def penalty(u, x, graph):
    return grad(u.sum(), x, create_graph=graph)[0].norm()
## right: a default that callers change
def penalty(u, x, graph=False):
    return grad(u.sum(), x, create_graph=graph)[0].norm()
## right: a step
(g,) = grad(task, x)
return F.cross_entropy(model(x + 0.1 * g.sign()), y)
## right: a step of length one
(g,) = grad(task, x)
return F.cross_entropy(model(x + g / g.norm()), y)
## right: how far a step went
(g,) = grad(task, x)
z = x + 0.1 * g
return task + F.mse_loss(z, x)
## right: a difference
(g,) = grad(task, x)
return ((model(x + 0.01 * g / g.norm()) - out) / 0.01).square().sum()
## right: a weight
(g,) = grad(task, x)
return (g.norm(dim=1) * F.cross_entropy(model(x), y, reduction='none')).mean()
## right: a denominator
(g,) = grad(task, x, create_graph=True)
n = g.norm()
return task + n / n.detach()
## right: a stopped gradient
(g,) = grad(task, x, create_graph=True)
n = g.norm()
return n - n.detach() + task
## right: a constant target
(g,) = grad(task, x)
return F.mse_loss(out, (y - g).detach())
## right: a teacher
(t,) = grad(teacher(x).sum(), x)
(g,) = grad(task, x, create_graph=True)
return F.mse_loss(g, t)
## right: a residual
(s,) = grad(out.sum(), x, create_graph=True)
(g,) = grad(task, x, retain_graph=True)
return (s - g).mean()
## right: a number for the records
(g,) = grad(task, x, create_graph=True)
return g.norm().item()
## right: a weight by its name
def loss(weight, x, y):
    task = F.cross_entropy(x @ weight, y)
    task.backward(retain_graph=True)
    return task + weight.grad.norm()
## right: no backward before
return task + x.grad.norm()
## right: the factor of what was differentiated
def loss(u, x):
    (g,) = grad(u.sum(), x, retain_graph=True)
    return (u * g.norm(dim=1)).mean()
## right: a path
def loss(encoder, x):
    z = encoder(x)
    leaf = z.detach().requires_grad_()
    head(leaf).backward()
    return (z * leaf.grad).sum()
## right: particles
(g,) = grad(task, x)
return -(x * g).sum()
## right: printed
(g,) = grad(task, x, retain_graph=True)
print(g.norm())
return task
## right: beside the loss
n = grad(task, x, retain_graph=True)[0].norm()
return task, n
## right: for the records
def train_step(model, x, y, optimizer):
    x.requires_grad_()
    task = F.mse_loss(model(x), y)
    n = grad(task, x, retain_graph=True)[0].norm()
    task.backward()
    optimizer.step()
    return task.item() + n.item()
## right: a saliency map
def saliency(model, x):
    x.requires_grad_()
    model(x).max().backward()
    return x.grad.abs().mean(1)
## right: validation
def validation_loss(model, x, f):
    x.requires_grad_()
    return F.l1_loss(-grad(model(x).sum(), x)[0], f)
## right: no_grad around all
@torch.no_grad()
def loss(model, x, y):
    with torch.enable_grad():
        x.requires_grad_()
        g = grad(model(x).sum(), x)[0]
    return g.norm()
## right: weights
def loss(model, x, y):
    task = F.mse_loss(model(x), y)
    gs = grad(task, model.parameters(), retain_graph=True)
    return task + sum(g.norm() for g in gs)
## right: weights in .grad
def loss(model, x, y):
    task = F.mse_loss(model(x), y)
    task.backward(retain_graph=True)
    return task + sum(p.grad.norm() for p in model.parameters())
## right: a parameter
class Net(nn.Module):
    def __init__(self):
        self.alpha = nn.Parameter(torch.ones(1))

    def loss(self, x):
        task = self(x).mean()
        return task + grad(task, self.alpha, retain_graph=True)[0].norm()
## right: another grad
from jax import grad
import torch

def loss(f, x):
    return f(x) + grad(f, x).norm()
"""


def cases(text: str) -> dict[str, tuple[str, str]]:
    """Name -> (kind, code)."""
    found = {}
    for block in text.removeprefix("## ").split("\n## "):
        heading, _, code = block.partition("\n")
        kind, _, name = heading.partition(": ")
        found[name] = kind, code + "\n" if "def " in code or code.startswith("for ") else body(code)
    return found


def body(code: str) -> str:
    return LOSS + "".join(f"    {line}\n" for line in code.splitlines() if line)
