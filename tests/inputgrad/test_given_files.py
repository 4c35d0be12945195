"""Weights and examples as people keep them: prefixes, checkpoints of trainers, safetensors, whole models, loaders."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from inputgrad import UserError
from inputgrad.robustness import weights
from inputgrad.robustness.examples import tensors_of


def net_of(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 5))


STATE = net_of().state_dict()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def loaded(contents, net=None):
    """What is said when a file with these contents is loaded; the weights are then those of STATE."""
    torch.save(contents, "w.pt")
    net = net or net_of(2)
    note = weights.load(net, Path("w.pt"))
    for found, wanted in zip(net.state_dict().values(), STATE.values(), strict=True):
        assert torch.equal(found, wanted)
    return note


def put(prefix, state=None):
    return {prefix + key: value for key, value in (state or STATE).items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "a.b.c.", "1."])
def test_any_prefix_is_left_out_and_that_is_said(prefix):
    said = loaded(put(prefix))
    assert all(part in said for part in prefix.replace(".", ".,").split(",")[:-1])
    assert "left out" in said


def test_a_model_whose_names_have_a_prefix_of_their_own():
    """All names of the model begin with '1.': leaving out 'module.1.' and putting '1.' in front is the same change."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    torch.save(put("module.", net.state_dict()), "w.pt")
    assert weights.load(net, Path("w.pt")) == "the names in the file begin with 'module.', which was left out"


def test_a_wrapper_inside_a_name_is_left_out():
    assert loaded({key.replace("1.", "1._orig_mod."): value for key, value in STATE.items()}) == (
        "'_orig_mod.' in the names was left out"
    )


def test_a_prefix_of_the_model_is_put_in_front():
    assert "'net.' was put in front" in loaded(dict(STATE), nn.ModuleDict({"net": net_of(2)}))
    swapped = loaded(put("model."), nn.ModuleDict({"net": net_of(2)}))
    assert "'model.', which was left out" in swapped
    assert "'net.' was put in front" in swapped
    assert loaded(dict(STATE), torch.compile(net_of(2))) == "'_orig_mod.' in the names was added"


def test_what_belongs_to_something_else_is_left_out_and_named():
    said = loaded(put("model.") | {"criterion.weight": torch.ones(3)})
    assert "1 that begin otherwise were left out (criterion.weight)" in said


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (put("student.") | put("teacher."), "several nets that fit, under 'student.' and 'teacher.'"),
        (put("model.") | {"model.9.weight": torch.ones(3)}, r"another net: 1 unexpected \(9.weight\)"),
        (
            {k: v for k, v in put("model.").items() if ".3." not in k},
            r"another net: 2 missing \(3.bias, 3.weight\); fix",
        ),
        ({"other.weight": torch.ones(3)}, r"4 missing \(1.bias, 1.weight, 3.bias, …\); 1 unexpected \(other.weight\)"),
    ],
)
def test_names_that_do_not_fit_are_named_as_they_fit_best(contents, said):
    with pytest.raises(UserError, match=said):
        loaded(contents)


def test_a_checkpoint_of_lightning():
    said = loaded({"epoch": 1, "state_dict": put("model."), "optimizer_states": [], "hyper_parameters": {"lr": 1.0}})
    assert "those under 'state_dict'" in said
    assert "begin with 'model.'" in said


def test_the_only_part_that_holds_tensors_alone():
    assert "those under 'weights_of_mine'" in loaded({"epoch": 3, "weights_of_mine": STATE, "optimizer": {"lr": 1}})


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize(
    "contents",
    [
        {"epoch": 1, "state_dict": put("model."), "hyper_parameters": Namespace(lr=1.0)},
        {"args": Namespace(lr=1.0), "model": dict(STATE)},
        net_of(),
    ],
    ids=["lightning", "checkpoint", "model"],
)
def test_the_lines_that_convert_a_file_work(contents, new):
    torch.save(contents, "last.ckpt", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="holds more than weights, and loading that could run its code") as error:
        weights.load(net_of(2), Path("last.ckpt"))
    lines = str(error.value).partition("run once: ")[2]
    exec(lines, {"torch": torch})
    found = net_of(2)
    weights.load(found, Path("weights.pt"))
    assert torch.equal(found.state_dict()["1.weight"], STATE["1.weight"])


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("run"),)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_file_is_never_run(new):
    torch.save({"state_dict": STATE, "more": Harmful()}, "w.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="could run its code"):
        weights.load(net_of(), Path("w.pt"))
    assert not Path("run").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors(name, monkeypatch):
    """The format by hand: the package may be missing where this test runs."""
    Path(name).write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UserError, match=rf"{name} needs the package safetensors; fix: pip install safetensors"):
        weights.load(net_of(), Path(name))
    fake = type(sys)("safetensors.torch")
    fake.load_file = lambda file: put("model.") if str(file) == name else {}
    monkeypatch.setitem(sys.modules, "safetensors", type(sys)("safetensors"))
    monkeypatch.setitem(sys.modules, "safetensors.torch", fake)
    found = net_of(2)
    assert "'model.'" in weights.load(found, Path(name))
    assert torch.equal(found.state_dict()["1.weight"], STATE["1.weight"])


def test_a_scripted_file_a_folder_and_lazy_layers():
    torch.jit.save(torch.jit.script(net_of()), "s.pt")
    with pytest.raises(UserError, match=r"s\.pt holds a scripted model; fix: give net = torch\.jit\.load\('s\.pt'\)"):
        weights.load(net_of(), Path("s.pt"))
    Path("folder").mkdir()
    with pytest.raises(UserError, match="folder is a folder; fix: name the file"):
        weights.load(net_of(), Path("folder"))
    torch.save(STATE, "w.pt")
    with pytest.raises(UserError, match="lazy layers without weights"):
        weights.load(nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), Path("w.pt"))


X, Y = torch.rand(30, 1, 4, 4), torch.arange(30) % 5
PAIRS = TensorDataset(X, Y)


class Items(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, i):
        return X[i].numpy(), int(Y[i])


@pytest.mark.parametrize("examples", [None, 11])
@pytest.mark.parametrize(
    "given",
    [
        (X, Y),
        (X.numpy(), Y.tolist()),
        PAIRS,
        Items(),
        DataLoader(PAIRS, batch_size=7),
        DataLoader(Items(), batch_size=7),
    ],
    ids=["tensors", "arrays", "TensorDataset", "Dataset", "DataLoader", "DataLoader of items"],
)
def test_examples_in_every_form(given, examples):
    x, y = tensors_of(given, "mine:data", examples)
    assert torch.equal(x, X[:examples])
    assert torch.equal(y, Y[:examples])


def test_a_loader_is_read_no_further_than_needed():
    read = []

    class Counted(Items):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    tensors_of(DataLoader(Counted(), batch_size=4), "mine:data", 6)
    assert len(read) == 8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DataLoader(PAIRS, shuffle=True), "in another order each time; fix: shuffle=False"),
        (DataLoader(PAIRS, sampler=SubsetRandomSampler([1, 2])), "in another order each time"),
        (DataLoader([{"x": 1.0}], batch_size=1), r"a batch is a dict, not a pair \(x, y\); fix: a Dataset of pairs"),
        (DataLoader(TensorDataset(X, Y, Y)), r"a batch is a list of 3 parts, not a pair"),
        (DataLoader([(object(), 1)]), r"do not make a batch \(.*\); fix: transform=ToTensor\(\)"),
        (DataLoader(PAIRS, batch_size=40, drop_last=True), "gives no examples; fix: one or more"),
        (DataLoader([(torch.rand(2), 0), (torch.rand(3), 1)]), "inputs of different shapes; fix: one shape"),
        ((object(), Y), "gives a object; fix: tensors or arrays of numbers"),
        (X, r"gives one thing; fix: a pair \(x, y\)"),
        ({"x": X}, r"gives a dict; fix: a pair \(x, y\), a Dataset, a DataLoader"),
    ],
)
def test_examples_that_are_none(given, said):
    with pytest.raises(UserError, match=f"mine:data.*{said}") as error:
        tensors_of(given, "mine:data", 2)
    assert "\n" not in str(error.value)


def test_more_examples_than_there_are():
    with pytest.raises(UserError, match="--examples 31: mine:data gives 30"):
        tensors_of(DataLoader(PAIRS, batch_size=7), "mine:data", 31)
