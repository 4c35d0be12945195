"""docs/stacks: every page's lines, run with the real package, give the gradients of the textbook in float64."""

from __future__ import annotations

import logging
import os
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import inputgrad
from inputgrad import FGSM, Context, GradientNorm, GradientTarget, JacobianNorm, Step, UserError
from tests.stacks.bench import BOUND, D, batch, fgsm, gap, gradient_norm, gradients_of, mlp

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "ACCELERATE_USE_CPU": "1"}
PAGES = Path(__file__).parents[2] / "docs/stacks"
X, Y = batch()


def code(page, number=0):
    return re.findall(r"^```python\n(.*?)^```", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.M | re.S)[number]


def run(page, number=0, **names):
    """The lines of a page, with these names around them; all names afterwards."""
    known = {**vars(inputgrad), "torch": torch, "F": F, "GradientNorm": GradientNorm, "GradientTarget": GradientTarget}
    known |= {"Context": Context, **names}
    exec(compile(code(page, number), f"{page}.md", "exec"), known)
    return SimpleNamespace(**{name: value for name, value in known.items() if not name.startswith("__")})


def trained(model, of, steps=2):
    """The weights after some steps of gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        of(model).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def test_every_page_is_in_the_index_and_is_tested_here():
    pages = {page.stem for page in PAGES.glob("*.md")}
    index = (PAGES.parent / "index.md").read_text(encoding="utf-8")
    assert all(f"stacks/{page}" in index for page in pages)
    here = Path(__file__).read_text(encoding="utf-8") + (Path(__file__).parent / "test_data_parallel.py").read_text()
    assert [page for page in pages if f'"{page}"' not in here and page != "data_parallel"] == []


class TestMixedPrecision:
    """On the CPU; the error allowed is twice that of the task loss alone."""

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("way", ["page", "step"])
    def test_the_scaled_gradient_is_that_of_float64_within_the_plain_losss_error(self, kind, way):
        def scaled(loss):
            model, scaler = mlp(torch.float32), torch.amp.GradScaler("cpu")
            x, optimizer = X.float(), torch.optim.SGD(model.parameters(), lr=0.1)
            if way == "page" and isinstance(loss, GradientNorm):
                lines = code("mixed_precision").replace("torch.float16", str(kind))
                exec(
                    lines,
                    {
                        "torch": torch,
                        "GradientNorm": GradientNorm,
                        **dict(model=model, x=x, y=Y, device="cpu", optimizer=optimizer),
                    },
                )
            else:
                with torch.autocast("cpu", kind):
                    Step(loss, model, scaler=scaler)(x, Y)
                scaler.unscale_(optimizer)
            return gradients_of(model)

        plain, exact = mlp(), mlp()
        allowed = 2 * gap(scaled(inputgrad.Standard()), gradients_of(plain, F.cross_entropy(plain(X), Y)))
        assert gap(scaled(GradientNorm(0.5)), gradients_of(exact, gradient_norm(exact, X, Y))) <= allowed


class TestCompile:
    def test_the_step_has_the_textbooks_gradient(self):
        model, single = mlp(), mlp()
        frozen = torch.optim.SGD(model.parameters(), lr=0.0)
        lines = code("compile").replace("optimizer.zero_grad()", "")
        known = {"CompiledStep": inputgrad.CompiledStep, "GradientNorm": GradientNorm, "model": model}
        exec(lines, {**known, "optimizer": frozen, "x": X, "y": Y})
        assert gap(gradients_of(model), gradients_of(single, gradient_norm(single, X, Y))) < BOUND


class TestLightning:
    pl = pytest.importorskip("pytorch_lightning")

    def net(self):
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        return run("lightning", pl=self.pl, make_net=mlp).Net()

    def trainer(self, **knobs):
        quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)
        return self.pl.Trainer(accelerator="cpu", **{"enable_checkpointing": False, "max_epochs": 2, **quiet, **knobs})

    @pytest.mark.parametrize(
        ("size", "knobs"), [(8, {}), (4, {"accumulate_grad_batches": 2}), (8, {"inference_mode": False})]
    )
    def test_it_trains_as_the_textbook(self, size, knobs):
        net = self.net()
        loader = DataLoader(TensorDataset(X, Y), batch_size=size)
        self.trainer(**knobs).fit(net, loader, loader)
        assert gap([p.detach() for p in net.net.parameters()], trained(mlp(), lambda m: gradient_norm(m, X, Y))) < BOUND

    def test_it_validates_under_inference_mode(self):
        net = self.net()
        found = self.trainer().validate(net, DataLoader(TensorDataset(X, Y), batch_size=8), verbose=False)
        assert found[0]["val_loss"] == pytest.approx(float(gradient_norm(mlp(), X, Y)), rel=BOUND)

    def test_a_checkpoint_with_a_loss_loads(self, tmp_path):
        pl = self.pl

        class Saved(type(self.net())):
            def __init__(self, loss):
                super().__init__()
                self.loss = loss
                self.save_hyperparameters()

        loss = GradientNorm(0.25, on=inputgrad.Adversary(epsilon=0.1)) + JacobianNorm(0.5)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Saved(loss), DataLoader(TensorDataset(X, Y), batch_size=8))
        assert Saved.load_from_checkpoint(trainer.checkpoint_callback.best_model_path).loss == loss


tf = pytest.importorskip("transformers")
PIXELS = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=D)
LABELS = torch.randint(3, (8,), generator=torch.Generator().manual_seed(2))
IDS = torch.randint(20, (8, 5), generator=torch.Generator().manual_seed(3))
SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_labels=3)
SMALL |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def vit(attention="eager"):
    torch.manual_seed(0)
    config = tf.ViTConfig(image_size=8, patch_size=4, intermediate_size=16, attn_implementation=attention, **SMALL)
    return tf.ViTForImageClassification(config).to(D)


def bert(attention="eager"):
    torch.manual_seed(0)
    config = tf.BertConfig(vocab_size=20, intermediate_size=16, attn_implementation=attention, **SMALL)
    return tf.BertForSequenceClassification(config).to(D)


def gpt2(attention="eager"):
    torch.manual_seed(0)
    sizes = dict(vocab_size=20, n_embd=16, n_layer=2, n_head=2, num_labels=3, pad_token_id=0)
    dropout = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return tf.GPT2ForSequenceClassification(tf.GPT2Config(**sizes, **dropout, attn_implementation=attention)).to(D)


def logits(model):
    return lambda pixels: model(pixel_values=pixels).logits


class TestTransformers:
    def train(self, size, accumulate, tmp_path):
        page = run("transformers", transformers=tf, loss=GradientNorm(0.5), context=None)
        data = [{"pixel_values": x, "labels": y} for x, y in zip(PIXELS, LABELS, strict=True)]
        sizes = dict(per_device_train_batch_size=size, gradient_accumulation_steps=accumulate, max_steps=2)
        plain = dict(optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0)
        quiet = dict(report_to=[], use_cpu=True, save_strategy="no", logging_strategy="no", disable_tqdm=True)
        arguments = tf.TrainingArguments(tmp_path, **sizes, **plain, **quiet, remove_unused_columns=False)
        trainer = page.Penalised(model=vit(), args=arguments, train_dataset=data, eval_dataset=data)
        trainer.train()
        return trainer

    @pytest.mark.parametrize(("size", "accumulate"), [(8, 1), (4, 2), (2, 4)])
    def test_the_trainer_trains_as_the_textbook_and_evaluates(self, size, accumulate, tmp_path):
        trainer = self.train(size, accumulate, tmp_path)
        wanted = trained(vit(), lambda m: gradient_norm(logits(m), PIXELS, LABELS))
        assert gap([p.detach() for p in trainer.model.parameters()], wanted) < BOUND
        model = trainer.model.eval()
        value = float(gradient_norm(logits(model), PIXELS, LABELS))
        assert trainer.evaluate()["eval_loss"] == pytest.approx(value, rel=1e-5)

    @pytest.mark.parametrize(
        ("make", "layer"), [(bert, "bert.embeddings.word_embeddings"), (gpt2, "transformer.wte")], ids=["BERT", "GPT-2"]
    )
    def test_text_by_the_embeddings_trains_their_table_too(self, make, layer):
        context = run("transformers", 1).context if make is bert else Context(layer=layer)
        model = make()
        found = gradients_of(model, GradientNorm(0.5)(model, {"input_ids": IDS}, LABELS, context))
        embedded = model.get_submodule(layer)(IDS)
        given = {"inputs_embeds": embedded} | ({"attention_mask": torch.ones(8, 5)} if make is bert else {})
        outputs = model(**given).logits if make is bert else last_token(model, embedded)
        losses = F.cross_entropy(outputs, LABELS, reduction="none")
        (g,) = torch.autograd.grad(losses.sum(), embedded, create_graph=True)
        wanted = gradients_of(model, losses.mean() + 0.5 * g.flatten(1).square().sum(1).mean())
        assert gap(found, wanted) < BOUND

    @pytest.mark.parametrize("make", [vit, bert])
    def test_the_fused_kernel_is_named_at_the_first_call(self, make):
        given = (
            (PIXELS, LABELS, None) if make is vit else (IDS, LABELS, Context(layer="bert.embeddings.word_embeddings"))
        )
        with pytest.raises(UserError, match='attn_implementation="eager"'):
            GradientNorm(0.5)(make("sdpa"), *given)
        FGSM(0.5)(make("sdpa"), *given).backward()  # asks for no second derivative

    def test_a_compiled_model_is_refused_at_the_call(self):
        model = torch.compile(mlp(), backend="aot_eager")
        with pytest.raises(UserError, match="a compiled model has no double backward: give the model as it was"):
            GradientNorm(0.5)(model, X, Y)


def last_token(model, embedded):
    """GPT-2 takes the last token that is no padding, which it finds in the ids."""
    hidden = model.transformer(inputs_embeds=embedded).last_hidden_state
    scores, place = model.score(hidden), torch.arange(IDS.shape[1])
    last = ((model.config.pad_token_id != IDS) * place).argmax(1)
    return scores[torch.arange(len(IDS)), last]


class TestAccelerate:
    def test_accumulated_it_is_the_gradient_of_the_whole_batch(self):
        accelerate = pytest.importorskip("accelerate")
        accelerate.state.AcceleratorState._reset_state(True)
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model, single = mlp(), mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for part in (slice(0, 4), slice(4, 8)):
            model = run(
                "accelerate", accelerator=accelerator, model=model, optimizer=optimizer, x=X[part], y=Y[part]
            ).model
        assert gap(gradients_of(model), gradients_of(single, gradient_norm(single, X, Y))) < BOUND


class TestPEFT:
    @pytest.mark.parametrize("book", [gradient_norm, fgsm])
    def test_the_adapters_get_the_textbooks_gradient(self, book):
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(
            r=4, target_modules=["query", "value", "q_proj", "v_proj"], modules_to_save=["classifier"]
        )
        loss = {gradient_norm: GradientNorm, fgsm: FGSM}[book]

        def make():
            model = peft.get_peft_model(vit(), config).to(D)
            draws = torch.Generator().manual_seed(3)
            for name, weight in model.named_parameters():
                if "lora_B" in name:  # zeros at first: nothing would be seen
                    nn.init.normal_(weight, generator=draws)
            return model

        model, single = make(), make()
        unwrapped = SimpleNamespace(get_peft_model=lambda model, config: model)
        run("peft", peft=unwrapped, model=model, config=config, x=PIXELS, y=LABELS, GradientNorm=loss)
        assert gap(gradients_of(model), gradients_of(single, book(logits(single), PIXELS, LABELS))) < BOUND


class TestGeometric:
    SIZES = (3, 5, 4)

    def data(self):
        geometric = pytest.importorskip("torch_geometric.data")
        g = torch.Generator().manual_seed(1)
        each = [
            geometric.Data(
                z=torch.randint(1, 9, (n,), generator=g),
                pos=torch.randn(n, 3, generator=g, dtype=D),
                force=torch.randn(n, 3, generator=g, dtype=D),
                energy=torch.randn(1, generator=g, dtype=D),
                stress=torch.randn(1, 3, 3, generator=g, dtype=D),
            )
            for n in self.SIZES
        ]
        return geometric.Batch.from_data_list(each)

    def schnet(self):
        from torch_geometric.nn.models import SchNet

        class Graph(nn.Module):  # without the compiled neighbour search
            def forward(self, pos, index):
                i, j = ((index[:, None] == index) & ~torch.eye(len(index), dtype=torch.bool)).nonzero().T
                return torch.stack([i, j]), (pos[i] - pos[j]).norm(dim=-1)

        torch.manual_seed(0)
        sizes = dict(hidden_channels=8, num_filters=8, num_interactions=2, num_gaussians=8)
        return SchNet(**sizes, interaction_graph=Graph()).to(D)

    def test_energies_and_forces(self):
        data, model, single = self.data(), self.schnet(), self.schnet()
        run("torch_geometric", model=model, data=data)
        pos = data.pos.clone().requires_grad_()
        energy = single(data.z, pos, data.batch)[:, 0]
        (g,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        wanted = F.mse_loss(energy, data.energy) + 10 * F.mse_loss(-g, data.force)
        assert gap(gradients_of(model), gradients_of(single, wanted)) < BOUND

    def test_stress_by_a_strain(self):
        data, model, single = self.data(), self.schnet(), self.schnet()
        run("torch_geometric", 1, model=model, data=data)
        strain = torch.zeros(3, 3, 3, dtype=D, requires_grad=True)
        symmetric = (strain + strain.transpose(1, 2)) / 2
        moved = torch.stack([p + p @ symmetric[k] for p, k in zip(data.pos, data.batch, strict=True)])
        (g,) = torch.autograd.grad(single(data.z, moved, data.batch).sum(), strain, create_graph=True)
        assert gap(gradients_of(model), gradients_of(single, F.mse_loss(g, data.stress))) < BOUND

    def test_the_norm_of_a_molecule_is_that_of_all_its_atoms(self):
        data, model = self.data(), self.schnet()
        loss = GradientNorm(of="outputs", squared=False)
        found = loss.each(model, data, data.energy, Context(wrt="pos", index="batch"))
        pos = data.pos.clone().requires_grad_()
        (g,) = torch.autograd.grad(model(data.z, pos, data.batch).sum(), pos)
        torch.testing.assert_close(found, torch.stack([g[data.batch == k].norm() for k in range(3)]))
