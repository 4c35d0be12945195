"""Can the tests fail? Break a copy of the code, one place at a time: python tests/benchmarks/mutations.py [FILE …]

Every row names a file, what is written there, what it is replaced with, and the tests that must notice.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

LOSSES, TRAINING = "tests/losses", "tests/test_training.py"
ATTACKS, EVALUATION, MASKING = (f"tests/test_{name}.py" for name in ("attacks", "evaluation", "masking"))
SLOTS, OBJECTIVE, SEARCH, KILLS, MISTAKES = (
    f"tests/search/test_{name}.py" for name in ("slots", "objective", "search", "kills", "mistakes")
)
MUTATIONS = [
    ("search/objective.py", '("train", "validation"))', '("train", "validation", "test"))', OBJECTIVE),
    ("search/objective.py", "kept = copy.deepcopy(trainer.model)", "kept = trainer.model", OBJECTIVE),
    ("search/objective.py", "worst.unbroken()", "worst.broken.new_ones(len(x)).nonzero()[:, 0]", OBJECTIVE),
    ("search/objective.py", '{"apgd_t": {"targets": 3, "steps": 5}}', '{"noise": {}}', OBJECTIVE),
    ("search/objective.py", "score(model, worst.x, y)", "score(model, x, y)", OBJECTIVE),
    ("search/space.py", "<= 1 - EDGE", "<= 1", "tests/search/test_space.py"),
    ("search/space.py", "math.log(v) if found.log else v", "v", "tests/search/test_space.py"),
    ("search/task.py", '"judges": self.judges,', "", f"{MISTAKES} -k other_settings"),
    ("search/space.py", "max(training.seeds) + 1", "training.seeds[0]", "tests/search/test_space.py"),
    ("search/slots.py", 'abs(process.create_time() - owner["born"]) > 1', "False", SLOTS),
    ("search/slots.py", 'if owner["host"] != socket.gethostname():', "if False:", SLOTS),
    ("search/slots.py", "t.number < opened.number", "False", SLOTS),
    ("search/slots.py", "    retry()(study, study._storage.get_trial(trial._trial_id))\n", "", SLOTS),
    (
        "search/slots.py",
        "(TrialState.COMPLETE, TrialState.PRUNED)",
        "(TrialState.COMPLETE,)",
        f"{SEARCH} -k pruning_ends",
    ),
    ("search/slots.py", "if slot(trial) < task.trials", "", SLOTS),
    ("search/storage.py", "JournalFileBackend(url, lock_obj=KernelLock(url))", "JournalFileBackend(url)", SLOTS),
    ("search/storage.py", "known != task.settings", "False", f"{MISTAKES} -k other_settings"),
    ("search/sampler.py", "[self.seed, slot]", "[self.seed]", f"{SEARCH} -k continued"),
    ("search/sampler.py", "[self.seed, slot]", "[self.seed, trial.number]", f"{SEARCH} -k killed_trial"),
    (
        "search/worker.py",
        "trial.report(found.robust, epoch)",
        "trial.report(found.clean, epoch)",
        f"{SEARCH} -k pruning_compares",
    ),
    ("search/worker.py", "if trial.should_prune():", "if False:", f"{SEARCH} -k pruning_ends"),
    (
        "search/record.py",
        "for trial in self.complete if self.meets(trial)]",
        "for trial in self.complete]",
        f"{SEARCH} -k impossible",
    ),
    (
        "search/record.py",
        'sign * facts(t)["robust"], sign * facts(t)["clean"]',
        'facts(t)["robust"], 0',
        f"{SEARCH} -k regression_s",
    ),
    ("search/crew.py", 'self.add(multiprocessing.get_context("forkserver"))', "pass", f"{KILLS} -k killed_workers"),
    ("search/crew.py", "        self.processes.clear()\n        slots.sweep(self.study)", "", f"{KILLS} -k ctrl_c"),
    ("search/apply.py", 'MARK.sub("", ', "str(", "tests/search/test_apply.py"),
    (
        "forward.py",
        "create_graph=True)\n        return gradient\n",
        "retain_graph=True)\n        return gradient\n",
        LOSSES,
    ),
    ("forward.py", "values.sum(), self.x", "values.mean(), self.x", LOSSES),
    ("forward.py", "y.reshape(outputs.shape)", "y", LOSSES),
    ("forward.py", "            module.training = training", "            module.training = True", LOSSES),
    ("forward.py", "    model.eval()\n", "", LOSSES),
    ("losses/__init__.py", "self.strength * self.every * ramp", "self.strength * ramp", LOSSES),
    ("losses/__init__.py", "min(1.0, epoch / self.ramp)", "1.0", LOSSES),
    ("losses/gradient_norm.py", "g.square().sum(1)", "g.square().sum(1).sqrt()", LOSSES),
    ("losses/gradient_direction.py", "direction[c] - at.x.detach()", "direction[c]", LOSSES),
    ("losses/jacobian_norm.py", "outputs.shape[1] / (2 *", "1 / (2 *", LOSSES),
    ("losses/finite_difference.py", "moved.losses - at.losses", "moved.losses - at.losses.detach()", LOSSES),
    ("losses/trades.py", "divergence(at.outputs, at.at", "divergence(at.outputs.detach(), at.at", LOSSES),
    ("losses/right_reasons.py", "gradient * at.context.mask", "gradient", LOSSES),
    ("losses/curvature.py", ").gradient() - at.gradient()", ").gradient() - at.constant_gradient()", LOSSES),
    ("losses/local_linearity.py", "* at.gradient()).sum(1)", "* at.constant_gradient()).sum(1)", LOSSES),
    (
        "losses/gradient_alignment.py",
        "at.gradient() if self.on is None",
        "at.constant_gradient() if self.on is None",
        LOSSES,
    ),
    ("norms.py", "delta.clamp(-epsilon, epsilon)", "delta", LOSSES),
    ("norms.py", "else moved.clamp(*bounds)", "else moved", LOSSES),
    ("norms.py", "** (1 / d)", "", LOSSES),
    ("adversary.py", "torch.where(expand(higher, found), again, found)", "again", LOSSES),
    (
        "training.py",
        "strict=True):\n            generator.set_state(saved)",
        "strict=True):\n            pass",
        TRAINING,
    ),
    ("training.py", '("epoch", "history", "snapshots")', '("epoch", "history")', TRAINING),
    ("training.py", 'self.optimizer.load_state_dict(state["optimizer"])', "pass", TRAINING),
    ("training.py", "bad = (~torch.isfinite(totals)).nonzero()", "bad = totals[:0]", TRAINING),
    ("training.py", "max(trainer.history, key=goodness):", "trainer.history[0]:", TRAINING),
    ("training.py", "manual_seed(0))  # not the run", "manual_seed(0)) and trainer.draws  # not the run", TRAINING),
    ("run.py", '"loss": {"name": self.loss_name, **knobs}', '"loss": {"name": self.loss_name}', TRAINING),
    ("run.py", "torch.manual_seed(self.seed)", "torch.manual_seed(0)", TRAINING),
    ("store.py", "weights_only=True)\n", "weights_only=False)\n", TRAINING),
    ("store.py", "torch.save(contents, f)", "torch.save(contents, temporary)", TRAINING),
    ("store.py", "        remove(temporary)\n\n", "        pass\n\n", "tests/test_cli.py"),
    ("attacks/__init__.py", "(now & ~before) | ", "", ATTACKS),
    ("tasks.py", "return outputs.argmax(1) != y", "return outputs.argmax(1) == y", ATTACKS),
    ("attacks/pgd.py", "worst.watching(left)", "(lambda z: -worst.look(z, left))", ATTACKS),
    ("attacks/fab.py", "(size < distance[left])", "(size > 0)", ATTACKS),
    ("attacks/fab.py", "(distance > enough)", "(distance > 1e9)", ATTACKS),
    ("attacks/_autoattack.py", "return (x - self.low) / self.width", "return x / self.width", ATTACKS),
    ("attacks/_autoattack.py", "threat.epsilon / box.width", "threat.epsilon", ATTACKS),
    ("attacks/_autoattack.py", "torch.random.fork_rng(devices=", "nullcontext(", ATTACKS),
    ("attacks/random_search.py", "higher = value > best", "higher = value > -torch.inf", ATTACKS),
    ("outcomes.py", "if not (torch.isfinite(before)", "if False and not (torch.isfinite(before)", EVALUATION),
    ("outcomes.py", 'f"{seed} {step.attack} {step.norm} {step.epsilon}"', "str(__import__('time').time())", EVALUATION),
    ("outcomes.py", "if not file.exists():", "if True:", EVALUATION),
    ("outcomes.py", 'groupby(outcomes["example"]).any()', 'groupby(outcomes["example"]).all()', EVALUATION),
    ("outcomes.py", "key=lambda name: traits(name).black_box", "key=lambda name: False", EVALUATION),
    ("outcomes.py", "victim.source if step.transfer else victim.model", "victim.model", EVALUATION),
    ("outcomes.py", "torch.where(expand(near <= radius, x), moved, x)", "moved", EVALUATION),
    ("evaluation.py", "if state_hash(victim.model) != before:", "if False:", EVALUATION),
    ("evaluation.py", "wanted > len(x)", "False", EVALUATION),
    ("descriptors.py", "(d**0.5 - l1 / l2)", "(d**0.5 - l2 / l1)", EVALUATION),
    ("descriptors.py", "cosine(x, gradients)", "cosine(gradients, gradients)", EVALUATION),
    ("descriptors.py", "squares += rows(row)", "squares = rows(row)", EVALUATION),
    ("masking/checks.py", "before - after for curve", "after - before for curve", MASKING),
    ("masking/checks.py", "weak - strong", "strong - weak", MASKING),
    ("masking/checks.py", "inside[~blind]", "inside", MASKING),
    ("masking/checks.py", "noise - fgsm", "fgsm - noise", MASKING),
    ("masking/checks.py", "~np.isfinite(norms) | ", "", MASKING),
    ("masking/checks.py", ".fillna(0)", "", MASKING),
    ("masking/checks.py", "finite and value <= threshold", "value <= threshold or not finite", MASKING),
    ("evaluation.py", "for _ in range(2))", "for _ in range(1)) * 2", MASKING),
    ("data/__init__.py", "if bad:", "if False:", "tests/test_data.py"),
    ("data/diabetes.py", 'v[part["train"]].mean(0)', "v.mean(0)", "tests/test_data.py"),
    (
        "data/_split.py",
        "random_state=seed, stratify=strata)\n    share",
        "random_state=0, stratify=strata)\n    share",
        "tests/test_data.py",
    ),
    ("data/decoy_digits.py", 'if split == "test" and', 'if split == "x" and', "tests/test_data.py"),
    ("config.py", "if radius > width:", "if False:", "tests/test_config.py"),
    ("validation.py", 'key=lambda e: e["type"] != "extra_forbidden"', "key=lambda e: 0", "tests/test_config.py"),
    ("errors.py", "cutoff=0.5", "cutoff=0.99", "tests/test_config.py"),
    ("audit/checks.py", "abs(autograd) > scale(s)", "True", "tests/test_audit.py"),
    ("audit/checks.py", "abs(slope) > scale(s)", "True", "tests/test_audit.py"),
    ("audit/checks.py", "gap < 1e-8", "True", "tests/test_audit.py"),
    ("audit/checks.py", "others < NOTHING", "True", "tests/test_audit.py"),
    ("audit/checks.py", "if norm > 0:", "if False:", "tests/test_audit.py"),
    ("audit/subject.py", "copy.deepcopy(model).double()", "model.double()", "tests/test_audit.py"),
    ("strengths.py", "1 / (2 * _number(s.batch_size))", "1 / _number(s.batch_size)", "tests/test_strengths.py"),
]


def notices(file: str, old: str, new: str, tests: str, copy: Path) -> bool:
    """Whether the tests fail on the broken code."""
    path = copy / "pipeline" / file
    whole = path.read_text()
    assert whole.count(old) >= 1, f"{file}: {old!r} is not there any more"
    path.write_text(whole.replace(old, new))
    run = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(run, cwd=copy, capture_output=True, text=True)
    path.write_text(whole)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "copy"
        shutil.copytree(
            ROOT, target, ignore=shutil.ignore_patterns(".venv", ".state", ".dvc", "mlartifacts", "experiments")
        )
        rows = [row for row in MUTATIONS if not sys.argv[1:] or row[0].startswith(tuple(sys.argv[1:]))]
        missed = [row for row in rows if not notices(*row, target)]
    for file, old, new, tests in missed:
        print(f"NOT NOTICED by {tests}: {file}: {old!r} -> {new!r}")
    print(f"{len(rows) - len(missed)} of {len(rows)} noticed")
