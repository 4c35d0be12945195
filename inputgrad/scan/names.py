"""Names that say what is meant: which functions are losses, which tensors weights, what a function of torch does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

LOSS = {
    "loss", "losses", "penalty", "penalties", "penalise", "penalize", "criterion", "objective", "reg",
    "regularizer", "regulariser", "regularization", "regularisation", "regularize", "regularise", "regularity",
    "gp", "r1", "eikonal", "closure", "cost", "prior", "constraint",
}  # fmt: skip
"""Words in the name of a function or class that gives a loss."""
STEPS = {("training", "step"), ("train", "step")}
NOT_TRAINED = {
    "eval", "evaluate", "evaluation", "val", "valid", "validate", "validation", "test", "log", "metric",
    "metrics", "attack", "plot", "infer", "inference", "predict",
}  # fmt: skip
WEIGHTS = {
    "param", "params", "parameter", "parameters", "weight", "weights", "theta", "thetas", "w", "ws", "p", "bias",
    "fast", "lora", "trainable", "variables", "kernel", "layer", "layers",
}  # fmt: skip
"""Words in the name of what is trained: a gradient of it is none of an input."""
FOLLOWS = {
    "loss", "losses", "out", "output", "outputs", "pred", "preds", "prediction", "predictions", "logit", "logits",
    "score", "scores", "energy", "feat", "feats", "feature", "features", "hidden", "activation", "activations",
    "fake", "recon",
}  # fmt: skip
"""Words in the name of an argument that may come from a model."""
MODELS = {"model", "net", "network", "module", "layer", "generator", "discriminator", "critic", "encoder", "decoder"}

COMPARES = {
    "loss", "losses", "criterion", "crit", "mse", "mae", "l1", "l2", "huber", "penalty", "dist", "distance",
    "cosine", "cos", "kl", "rmse", "l2norm",
}  # fmt: skip
"""Words in the name of a function of another file, or of an object, that compares or measures what it is given."""

PASS = {
    "view", "reshape", "flatten", "clone", "contiguous", "to", "cuda", "cpu", "float", "double", "half",
    "bfloat16", "type", "squeeze", "unsqueeze", "transpose", "permute", "t", "expand", "expand_as", "view_as",
    "reshape_as", "type_as", "repeat", "neg", "chunk", "split", "unbind", "narrow", "index_select", "gather",
    "masked_select", "requires_grad_", "retain_grad", "stack", "cat", "concat", "concatenate", "hstack", "vstack",
    "Variable", "as_tensor", "movedim", "swapaxes", "select", "rearrange", "diagonal", "flip", "roll", "scale",
    "scale_loss", "add", "sub", "add_", "sub_", "array", "asarray", "squeeze_", "unsqueeze_", "neg_",
    "nan_to_num", "list", "tuple", "reversed", "sorted", "subtract", "real", "unscale",
}  # fmt: skip
"""What keeps a sum of terms a sum of terms."""
SUMS = {"mean", "sum", "nansum", "nanmean", "trace", "average"}
PRODUCTS = {
    "mul", "mul_", "div", "div_", "matmul", "mm", "bmm", "dot", "einsum", "multiply", "divide", "true_divide",
    "inner",
}  # fmt: skip
REDUCES = {
    "norm", "vector_norm", "matrix_norm", "max", "min", "amax", "amin", "var", "std", "dot", "einsum", "inner",
    "logsumexp", "cosine_similarity", "pairwise_distance", "dist", "kl_div", "cdist", "prod", "median",
    "quantile", "cross_entropy",
}  # fmt: skip
CUTTING = {"detach", "detach_", "numpy", "item", "tolist", "tensor", "from_numpy", "int", "Tensor", "FloatTensor"}
NUMBERS = {"item", "tolist", "int"}
"""Those of them that are for printing, nearly always."""
NOTHING = {
    "sign", "sgn", "sign_", "argmax", "argmin", "argsort", "topk", "sort", "size", "dim", "numel", "nelement",
    "isnan", "isfinite", "isinf", "any", "all", "gt", "lt", "ge", "le", "eq", "ne", "allclose", "equal", "zero_",
    "fill_", "len", "range", "print", "isinstance", "str", "repr", "format", "hasattr", "id", "bool", "ndim",
    "where_indices", "zeros_like", "ones_like", "rand_like", "randn_like", "full_like", "empty_like", "new_zeros",
    "new_ones", "new_tensor", "zeros", "ones", "rand", "randn", "full", "empty", "arange", "linspace", "eye",
    "manual_seed", "device", "save", "load", "uniform", "normal", "randint", "randperm", "nonzero", "bincount",
    "unique", "histc", "count_nonzero", "get_device",
}  # fmt: skip
"""What gives no gradient any more: a direction, an order, a shape."""
FACTS = {"shape", "device", "dtype", "ndim", "requires_grad", "is_leaf", "is_cuda", "grad_fn", "layout", "names"}
ROOTS = {"torch": "torch", "autograd": "torch.autograd", "F": "torch.nn.functional", "np": "numpy", "nn": "torch.nn"}
"""What those names mean where a piece of a file does not import them."""
LIBRARIES = ("torch.", "numpy.", "math.", "einops.")


def words(name: str) -> list[str]:
    """['gradient', 'penalty'] of gradient_penalty, GradientPenalty and gradientPenalty."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+", name)]


def gives_loss(name: str) -> bool:
    """Whether a function or a class of this name gives what is trained on."""
    parts = words(name)
    if NOT_TRAINED & set(parts):
        return False
    if (tuple(parts) in STEPS) or tuple(parts[-2:]) in STEPS:
        return True
    at = [n for n, part in enumerate(parts) if part in LOSS]
    later = parts[at[-1] + 1 :] if at else []
    return bool(at) and not {"grad", "grads", "gradient", "gradients", "derivative", "derivatives"} & set(later)


def has(name: str, wanted: set[str]) -> bool:
    return bool(wanted & set(words(name)))


def path(node: ast.expr) -> str:
    """'self.x' and 'batch["pos"]' for what can be named in one way, else ''."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{base}.{node.attr}" if (base := path(node.value)) else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return f"{base}[{node.slice.value!r}]" if (base := path(node.value)) else ""
    return ""


def imports(tree: ast.AST) -> dict[str, str]:
    """Every name that the file imports, and what it stands for: {'grad': 'torch.autograd.grad'}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}"
    return found


def parameters(tree: ast.AST) -> set[str]:
    """The paths that hold weights: those of an nn.Parameter, and of what a model gives as its parameters."""
    return {path(target) for target, value in assigned(tree) if value is not None and makes_weights(value)} - {""}


def retained(tree: ast.AST) -> set[str]:
    """The last names of what the file tells to keep a gradient: {'h'} for self.h.retain_grad()."""
    called = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return {path(f.value).rpartition(".")[2] for f in called if f.attr in ("retain_grad", "requires_grad_")} - {""}


def assigned(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield target, node.value
        elif isinstance(node, ast.AnnAssign):
            yield node.target, node.value


def makes_weights(value: ast.expr) -> bool:
    return any(
        (path(node.func) or getattr(node.func, "attr", "")).rsplit(".", 1)[-1]
        in ("Parameter", "ParameterList", "parameters", "named_parameters")
        for node in ast.walk(value)
        if isinstance(node, ast.Call)
    )
