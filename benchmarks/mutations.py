"""Can the tests fail? Break a copy of the code, one place at a time: python -m benchmarks.mutations [FILE …]

Every row names a file, what is written there (exactly once), what it is replaced with, and the tests that must notice.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

Row = tuple[str, str, str, str]

CALLS = "tests/inputgrad/test_calls.py"
LOSSES = "tests/inputgrad/losses"
ENSEMBLE, STEP, STACKED = (f"tests/inputgrad/test_{name}.py" for name in ("ensemble", "step", "stacked"))
ATTACKS, MASKING, STRENGTHS = (f"tests/inputgrad/test_{name}.py" for name in ("attacks", "masking", "strengths"))
AUDIT, HARD, PUBLIC, MEASURED = (
    f"tests/inputgrad/audit/test_{name}.py" for name in ("audit", "hard_losses", "public_losses", "measured")
)
RESIDUAL = "tests/inputgrad/losses/test_residual.py"
ATTACK, CLI, DATA, READ, TRAIN = (
    f"tests/pipeline/test_{name}.py" for name in ("attack", "cli", "data", "read", "train")
)
FORWARD, EVALUATE, SHEET, STAGE, TRAINER = (
    "inputgrad/gradients/forward.py",
    "inputgrad/robustness/attacking.py",
    "inputgrad/robustness/masking.py",
    "pipeline/stages/attack.py",
    "pipeline/stages/train.py",
)
REPORT = "tests/pipeline/report"
AROUND, KEPT, TRACKING = (
    f"{REPORT}/test_context_of_the_report.py",
    "tests/pipeline/test_kept.py",
    "tests/pipeline/test_tracking.py",
)
REPRODUCED, COLLAPSE = f"{REPORT}/test_reproduced.py", f"{REPORT}/test_collapse.py"
MEASURES = "tests/pipeline/test_measures.py"
SUM, CONTAINERS, DOUBLE = (
    "inputgrad/losses/_sum.py",
    *(f"inputgrad/gradients/{name}.py" for name in ("containers", "double_backward")),
)
SUMS, INPUTS, REFUSALS, TESTING = (
    f"tests/inputgrad/test_{n}.py" for n in ("sums", "containers", "refusals", "testing")
)
RESIDUAL, IN_A_STUDY = "tests/inputgrad/losses/test_residual.py", "tests/pipeline/test_sum_in_a_study.py"
UNIT, HARD_LABEL, FAST = (f"tests/inputgrad/test_{name}.py" for name in ("unit_test", "hop_skip_jump", "fast_ensemble"))
IMPORTS = "tests/pipeline/test_imports.py"
RRR = "tests/pipeline/test_right_reasons_data.py"
CHECKPOINTS = "tests/pipeline/test_checkpoints.py"
SEARCHES = "tests/pipeline/search"
APPLY, KILLS, MISTAKES, OBJECTIVE, RUNG, SEARCH, SPACE, TRIALS = (
    f"{SEARCHES}/test_{name}.py"
    for name in ("apply", "kills", "mistakes", "objective", "rung", "search", "space", "trials")
)
LOOP, STORAGE = (f"pipeline/search/{name}.py" for name in ("loop", "storage"))
MUTATIONS: list[Row] = [
    ("pipeline/search/objective.py", '("train", "validation"))', '("train", "validation", "test"))', OBJECTIVE),
    ("pipeline/search/objective.py", "folder / layout.BEST", "folder / layout.LAST", RUNG),
    (
        "pipeline/search/objective.py",
        "worst.unbroken()",
        "worst.broken.new_ones(len(x)).nonzero()[:, 0]",
        f"{OBJECTIVE} -k one_worst_case",
    ),
    ("pipeline/search/objective.py", '{"apgd_t": {"targets": 3, "steps": 5}}', '{"noise": {}}', OBJECTIVE),
    ("pipeline/search/objective.py", "score(model(worst.x), y)", "score(model(x), y)", OBJECTIVE),
    ("pipeline/search/objective.py", "FIRST_RUNG, RUNGS = 4, 2", "FIRST_RUNG, RUNGS = 8, 2", f"{OBJECTIVE} -k rungs"),
    ("pipeline/search/space.py", "<= 1 - EDGE", "<= 1", SPACE),
    ("pipeline/search/space.py", "math.log(v) if found.log else v", "v", SPACE),
    ("pipeline/search/space.py", "max(training.seeds) + 1", "training.seeds[0]", SPACE),
    ("pipeline/search/space.py", 'float(f"{value:.{DIGITS}g}")', "value", SPACE),
    ("pipeline/search/space.py", "values if inside else None", "values", SPACE),
    ("pipeline/search/task.py", '"judges": self.judges,', "", f"{MISTAKES} -k other_settings"),
    (
        "pipeline/search/task.py",
        '"loss": {"name": self.loss, **fixed}',
        '"loss": self.loss',
        f"{MISTAKES} -k other_set",
    ),
    ("pipeline/search/task.py", '"seed": self.seed, "prunes"', '"prunes"', f"{MISTAKES} -k options"),
    ("pipeline/search/task.py", "str(Path(self.storage).resolve())", "self.storage", f"{TRIALS} -k second_command"),
    ("pipeline/search/task.py", "[self.name, str(self.lock)]", "[self.name]", f"{TRIALS} -k second_command"),
    (
        "pipeline/search/task.py",
        "standard_clean - drop if self.higher_is_better else standard_clean + drop",
        "standard_clean - drop",
        f"{OBJECTIVE} -k regression",
    ),
    (LOOP, "(TrialState.COMPLETE, TrialState.PRUNED)", "(TrialState.COMPLETE,)", f"{SEARCH} -k pruning_ends"),
    (LOOP, "found if slot(trial) < task.trials)", "found)", f"{TRIALS} -k fewer_trials"),
    (LOOP, "all_of_them if trial.state != TrialState.FAIL}", "all_of_them}", f"{TRIALS} -k tried_again"),
    (LOOP, "values = before[-1].params", "pass", f"{TRIALS} -k tried_again"),
    (LOOP, 'KEPT = ("slot", "looks")', 'KEPT = ("slot",)', f"{TRIALS} -k tried_again"),
    (LOOP, "study.tell(trial.number, state=TrialState.FAIL)", "pass", f"{TRIALS} -k tried_again"),
    (LOOP, "states=(TrialState.WAITING,)):\n        study.ask()", "states=()):\n        pass", f"{TRIALS} -k tried"),
    (LOOP, "if number == 0 else None", "if number < 0 else None", f"{TRIALS} -k first_slot"),
    (STORAGE, "known != task.settings", "False", f"{MISTAKES} -k other_settings"),
    (STORAGE, "os.truncate(journal, last)", "pass", f"{TRIALS} -k last_line"),
    (STORAGE, 'content.endswith(b"\\n") and bool(', "bool(", f"{TRIALS} -k last_line"),
    (STORAGE, " and bool(json.loads(content[last:]))", "", f"{TRIALS} -k last_line"),
    (STORAGE, "if content[: len(start)] != start[: len(content)]:", "if False:", f"{TRIALS} -k no_journal"),
    (STORAGE, "lock.acquire()", "pass", f"{TRIALS} -k second_command"),
    ("pipeline/search/storage.py", "[self.seed, slot]", "[self.seed]", f"{SEARCH} -k continued"),
    ("pipeline/search/storage.py", "[self.seed, slot]", "[self.seed, trial.number]", f"{TRIALS} -k any_line"),
    ("pipeline/search/storage.py", "other.state != TrialState.FAIL", "True", f"{TRIALS} -k halving"),
    ("pipeline/search/storage.py", "sign = -1 if", "sign = 1 if", f"{TRIALS} -k halving"),
    (LOOP, 'trial.report(found["robust"], epoch)', 'trial.report(found["clean"], epoch)', f"{SEARCH} -k compares"),
    (LOOP, "if one.trial.should_prune():", "if False:", f"{SEARCH} -k pruning_ends"),
    (LOOP, 'values=facts["robust"])', 'values=facts["clean"])', f"{SEARCH} -k compares"),
    (
        LOOP,
        'self.task.shortfall(facts["clean"]',
        'self.task.shortfall(facts["robust"]',
        f"{SEARCH} -k beyond_the_clean",
    ),
    (LOOP, "if not one.rungs:", "if len(one.rungs) < 2:", f"{SEARCH} -k compares"),
    (LOOP, '{"epochs": found.epochs}', '{"epochs": self.task.run.epochs}', f"{OBJECTIVE} -k turns_nan"),
    (LOOP, "!= self.name:", "is None:", f"{TRIALS} -k taken_over"),
    (LOOP, "        fingerprint.read_again()\n", "", f"{MISTAKES} -k code_that"),
    (
        LOOP,
        'self.task.code_and_data() != self.task.settings["code and data"]',
        "False",
        f"{MISTAKES} -k code_that",
    ),
    (
        LOOP,
        "== self.name:\n                release(self.study)",
        "== self.name:\n                pass",
        f"{KILLS} -k kills_every",
    ),
    (LOOP, "        files.remove(one.run.place)\n", "", f"{TRIALS} -k leave_no_state"),
    (LOOP, "            files.remove(self.task.state)\n", "", f"{TRIALS} -k leave_no_state"),
    ("pipeline/search/rung.py", "if epochs_of(run) > epoch:", "if False:", f"{RUNG} -k beyond"),
    ("pipeline/search/rung.py", "dataset, until=epoch)", "dataset)", f"{RUNG} -k rung_by_rung"),
    (
        "pipeline/search/rung.py",
        "self.place / self.fingerprint",
        "layout.state(self.fingerprint)",
        f"{RUNG} -k equal_trials",
    ),
    (
        "pipeline/search/rung.py",
        "not (math.isfinite(scores.clean) and math.isfinite(scores.robust))",
        "False",
        f"{OBJECTIVE} -k not_finite",
    ),
    ("pipeline/search/rung.py", "reason = str(error)", "raise", f"{OBJECTIVE} -k turns_nan"),
    ("pipeline/search/rung.py", "    objective.refuse_unusable(task.run, dataset)\n", "", f"{OBJECTIVE} -k before_any"),
    (
        "pipeline/search/record.py",
        "in self.complete if self.meets(trial)]",
        "in self.complete]",
        f"{SEARCH} -k impossible",
    ),
    (
        "pipeline/search/record.py",
        'sign * facts(t)["robust"], sign * facts(t)["clean"], -loop',
        'facts(t)["robust"], 0, -trials',
        f"{SEARCH} -k regression_s",
    ),
    ("pipeline/search/apply.py", 'MARK.sub("", ', "str(", APPLY),
    ("pipeline/search/command.py", "if not 0 <= seed < SEEDS:", "if False:", f"{MISTAKES} -k one_line"),
    ("pipeline/workers/local.py", "process = self.replaced(process)", "raise", f"{KILLS} -k killed_workers"),
    (TRAINER, "until or run.epochs", "run.epochs", f"{RUNG} -k until_an_epoch"),
    (
        FORWARD,
        "self.x, create_graph=True)\n",
        "self.x, retain_graph=True)\n",
        LOSSES,
    ),
    (FORWARD, "values.sum(), self.x", "values.mean(), self.x", LOSSES),
    (
        "inputgrad/tasks.py",
        "return outputs - y.reshape(outputs.shape)",
        "return outputs - y",
        LOSSES,
    ),
    (FORWARD, "            module.training = training", "            module.training = True", LOSSES),
    (FORWARD, "        module.training = False\n", "        pass\n", LOSSES),
    (FORWARD, "x if self.in_graph else", "", CALLS),
    (FORWARD, "points + (self.x - self.x.detach()) if self.in_graph else points", "points", CALLS),
    (FORWARD, "draws or Draws()", "draws or Draws(torch.Generator().manual_seed(0))", CALLS),
    (FORWARD, "enabled=False) if self.exact else", "enabled=True) if self.exact else", CALLS),
    (FORWARD, "= self.notes, self._random, self.inputs", "= self.notes, [], self.inputs", CALLS),
    ("inputgrad/step.py", "        self.calls += 1\n", "", CALLS),
    ("inputgrad/step.py", "None if at.in_graph or is_distributed() else [", "[", CALLS),
    ("inputgrad/losses/__init__.py", "if strength is None and self.counts_steps", "if False", CALLS),
    ("inputgrad/tasks.py", "if outputs[:1].numel() > 1:", "if False:", CALLS),
    ("inputgrad/tasks.py", "/ counted.sum(1).to(each.dtype).mean()", "/ counted.shape[1]", CALLS),
    ("inputgrad/losses/__init__.py", "self.strength * self.every * ramp", "self.strength * ramp", LOSSES),
    ("inputgrad/losses/__init__.py", "min(1.0, epoch / self.ramp)", "1.0", LOSSES),
    ("inputgrad/losses/gradient_norm.py", "g.square().sum(1)", "g.square().sum(1).sqrt()", LOSSES),
    ("inputgrad/losses/gradient_direction.py", "direction[c] - at.x.detach()", "direction[c]", LOSSES),
    ("inputgrad/losses/jacobian_norm.py", "outputs.shape[1] / (2 *", "1 / (2 *", LOSSES),
    ("inputgrad/losses/finite_difference.py", "moved.losses - at.losses", "moved.losses - at.losses.detach()", LOSSES),
    (
        "inputgrad/losses/trades.py",
        "divergence(at, at.outputs, at.at",
        "divergence(at, at.outputs.detach(), at.at",
        LOSSES,
    ),
    ("inputgrad/losses/right_reasons.py", "return values * mask", "return values", LOSSES),
    ("inputgrad/losses/curvature.py", ").gradient() - at.gradient()", ").gradient() - at.constant_gradient()", LOSSES),
    ("inputgrad/losses/local_linearity.py", "* at.gradient()).sum(1)", "* at.constant_gradient()).sum(1)", LOSSES),
    (
        "inputgrad/losses/gradient_alignment.py",
        "at.gradient() if self.on is None",
        "at.constant_gradient() if self.on is None",
        LOSSES,
    ),
    ("inputgrad/gradients/norms.py", "delta.clamp(-epsilon, epsilon)", "delta", LOSSES),
    (
        "inputgrad/gradients/norms.py",
        "else moved.clamp(x.clamp_max(bounds[0]), x.clamp_min(bounds[1]))",
        "else moved",
        LOSSES,
    ),
    ("inputgrad/gradients/norms.py", "** (1 / d)", "", LOSSES),
    ("inputgrad/gradients/ascent.py", "torch.where(at.expand(higher), again, found)", "again", LOSSES),
    (
        TRAINER,
        "strict=True):\n            generator.set_state(saved)",
        "strict=True):\n            pass",
        TRAIN,
    ),
    (TRAINER, '("epoch", "history", "snapshots")', '("epoch", "history")', TRAIN),
    (TRAINER, 'self.optimizer.load_state_dict(state["optimizer"])', "pass", TRAIN),
    (TRAINER, "bad = (~torch.isfinite(totals)).nonzero()", "bad = totals[:0]", TRAIN),
    ("pipeline/stages/saving.py", "row is kept_row(run, trainer.history):", "row is trainer.history[0]:", TRAIN),
    (TRAINER, "manual_seed(0))  # not the run", "manual_seed(0)) and Draws(trainer.draw)  # not the run", TRAIN),
    (
        "inputgrad/gradients/looking.py",
        "tuple(copy.deepcopy(thing, made_by_hooks(thing)) for thing in things)",
        "things",
        "tests/pipeline/test_looking.py",
    ),
    (
        "pipeline/study/run.py",
        '"loss": {"name": self.loss_name, **self.study.stated(self.loss_name)}',
        '"loss": {"name": self.loss_name}',
        TRAIN,
    ),
    ("pipeline/study/run.py", "torch.manual_seed(self.seed)", "torch.manual_seed(0)", TRAIN),
    ("pipeline/store.py", "weights_only=True))\n", "weights_only=False))\n", TRAIN),
    ("pipeline/store.py", "hash_of_contents(contents)}, buffer)", "hash_of_contents({})}, buffer)", TRAIN),
    ("inputgrad/files.py", "        remove(temporary)\n        remove(old)", "        remove(old)", CLI),
    ("inputgrad/attacks/__init__.py", "(now & ~before) | ", "", ATTACKS),
    (
        "inputgrad/tasks.py",
        "broken=lambda outputs, y: predicted(outputs) != y",
        "broken=lambda outputs, y: predicted(outputs) == y",
        ATTACKS,
    ),
    ("inputgrad/attacks/pgd.py", "worst.watching(left)", "(lambda z: -worst.measure(z, left))", ATTACKS),
    ("inputgrad/attacks/_classes.py", "return (x - self.low) / self.width", "return x / self.width", ATTACKS),
    ("inputgrad/attacks/_square.py", "(delta * (1 - source))", "delta", ENSEMBLE),
    ("inputgrad/attacks/_square.py", "super().rounded(side) // 2 * 2 + 1", "super().rounded(side)", ENSEMBLE),
    ("inputgrad/attacks/_square.py", "refused[moving] = False  #", "pass  #", ENSEMBLE),
    (
        "inputgrad/attacks/_square.py",
        "begin[moving] = number[taken] + 1",
        "begin[moving] = number[taken] + 2",
        ENSEMBLE,
    ),
    ("inputgrad/attacks/_apgd.py", "1.0 if i == 1 else MOMENTUM", "1.0", ENSEMBLE),
    ("inputgrad/attacks/_apgd.py", "length = max(length - less, shortest)", "pass", ENSEMBLE),
    ("inputgrad/attacks/_apgd.py", "torch.where(there, rows.best_gradient, rows.gradient)", "rows.gradient", ENSEMBLE),
    ("inputgrad/attacks/_apgd.py", "stuck = ~rows.halved & ", "stuck = ", ENSEMBLE),
    ("inputgrad/attacks/_apgd.py", "& (self.moved == self.best)", "", ENSEMBLE),
    (STAGE, 'if run.loss_name == "standard" or', "if", ATTACK),
    (STAGE, "== state_hash(victim.model)", "!= state_hash(victim.model)", ATTACK),
    ("inputgrad/attacks/_fab.py", "* BACK", "* 1.0", ENSEMBLE),
    ("inputgrad/attacks/_fab.py", "clamp(0, TOWARDS_CLEAN)", "clamp(0, 0)", ENSEMBLE),
    ("inputgrad/attacks/_fab.py", "distance[example] > enough", "distance[example] >= 0", ENSEMBLE),
    ("inputgrad/robustness/settings.py", "chosen is None or name in chosen", "True", ATTACK),
    ("inputgrad/step.py", "in (*weights, *(t for found", "in (*weights[:0], *(t for found", STEP),
    ("inputgrad/step.py", "if torch.__version__ < COMPILES", "if False", STEP),
    (
        "inputgrad/step.py",
        "            if gradient is not None and gradient.stride() !",
        "            if False and gradient.stride() !",
        STEP,
    ),
    ("inputgrad/stacked.py", "parameter.grad *= self.model.count", "parameter.grad *= 1", STACKED),
    ("inputgrad/stacked.py", "start += len(part)", "start += 0", STACKED),
    (
        "inputgrad/gradients/targets.py",
        'return sign * at.gradient("outputs"), target',
        'return at.gradient("outputs"), target',
        LOSSES,
    ),
    ("inputgrad/gradients/targets.py", "return sign * torch.stack", "return torch.stack", LOSSES),
    ("inputgrad/gradients/targets.py", "error = error * (weight", "error = error + 0 * (weight", LOSSES),
    ("inputgrad/losses/gradient_norm.py", "float(self.p), dim=1) - self.target", "float(self.p), dim=1)", LOSSES),
    ("inputgrad/losses/elle.py", "(1 - share) * here", "share * here", LOSSES),
    ("inputgrad/losses/nfgsm.py", "reach = self.noise * self.epsilon", "reach = self.epsilon", LOSSES),
    ("inputgrad/losses/nfgsm.py", "                noisy,", "                x,", LOSSES),
    ("inputgrad/attacks/random_search.py", "higher = value > best", "higher = value > -torch.inf", ATTACKS),
    (EVALUATE, "if not (torch.isfinite(before)", "if False and not (torch.isfinite(before)", ATTACK),
    (EVALUATE, 'f"{seed} {step.attack} {step.norm} {step.epsilon}"', "str(__import__('time').time())", ATTACK),
    (EVALUATE, "if contents is None:", "if True:", ATTACK),
    (EVALUATE, "np.minimum.at(self", "np.maximum.at(self", f"{FAST} -k stands"),
    (EVALUATE, "if not step.module.TRAITS.black_box)", "if step.attack)", ATTACK),
    (
        EVALUATE,
        "victim.source if step.transfer and victim.source is not None else victim.model",
        "victim.model",
        ATTACK,
    ),
    (EVALUATE, "torch.where(expand(near <= radius, x), moved, x)", "moved", ATTACK),
    (STAGE, "if state_hash(victim.model) != before:", "if False:", ATTACK),
    (STAGE, "wanted > there", "False", ATTACK),
    ("inputgrad/gradients/descriptors.py", "(d**0.5 - ratio)", "(d**0.5 - 1 / ratio)", ATTACK),
    ("inputgrad/gradients/descriptors.py", "cosine(x, gradients)", "cosine(gradients, gradients)", ATTACK),
    ("inputgrad/gradients/descriptors.py", "squares += rows(row)", "squares = rows(row)", ATTACK),
    (SHEET, "pairwise(curve)] or", "pairwise(reversed(curve))] or", MASKING),
    (SHEET, "weak - strong", "strong - weak", MASKING),
    (SHEET, 'inside[~inside["attack"].isin(blind)]', "inside", MASKING),
    (SHEET, "(noise, fgsm))\n", "(fgsm, noise))\n", MASKING),
    (SHEET, "~np.isfinite(norms) | ", "", MASKING),
    (SHEET, ".fillna(0)", "", MASKING),
    (SHEET, "finite and value <= threshold", "value <= threshold or not finite", MASKING),
    ("pipeline/results/statistics.py", "self.p < 1 - CONFIDENCE", "True", f"{REPORT}/test_words.py"),
    ("pipeline/results/statistics.py", "mean, low, high = -mean, -high, -low", "pass", f"{REPORT}/test_words.py"),
    (SHEET, "limit = max(1, ", "limit = max(0, ", MASKING),
    (
        SHEET,
        "limit = max(limit, by_chance(against + in_favour))",
        "limit = max(limit, 0)",
        MASKING,
    ),
    (SHEET, "weak.index != most", "weak.index == weak.index", MASKING),
    ("inputgrad/robustness/masking.py", "for _ in range(2))", "for _ in range(1)) * 2", MASKING),
    ("pipeline/data/__init__.py", "if bad:", "if False:", DATA),
    ("pipeline/data/diabetes.py", 'v[part["train"]].mean(0)', "v.mean(0)", DATA),
    (
        "pipeline/data/_split.py",
        "random_state=seed, stratify=strata)\n    share",
        "random_state=0, stratify=strata)\n    share",
        DATA,
    ),
    ("pipeline/data/_decoys.py", 'if split == "test" and', 'if split == "x" and', DATA),
    ("pipeline/data/_decoys.py", "right * (width - side)", "bottom * (width - side)", DATA),
    ("pipeline/data/iris_cancer.py", 'values["test"][:, :IRIS] = 0', "pass", RRR),
    ("pipeline/data/iris_cancer.py", 'x[:, :IRIS] = dataset.known("test")["iris"]', "pass", RRR),
    ("pipeline/data/toy_colors.py", "+= generator.integers(1, len(COLOURS), len(alike))", "+= 1", RRR),
    ("pipeline/data/toy_colors.py", "generator.integers(1, 3, len(distinct))", "0", RRR),
    ("pipeline/study/checks.py", "if radius > width:", "if False:", READ),
    ("pipeline/study/validation.py", 'key=lambda e: e["type"] != "extra_forbidden"', "key=lambda e: 0", READ),
    ("inputgrad/errors.py", "cutoff=0.5", "cutoff=0.99", READ),
    ("inputgrad/audit/verdict.py", "if self.moved:", "if False:", AUDIT),
    ("inputgrad/audit/verdict.py", '"depends" if self.agrees else', '"depends" if True else', PUBLIC),
    ("inputgrad/audit/verdict.py", "        steps=steps,", "        steps=False,", AUDIT),
    ("inputgrad/audit/verdict.py", "subject.run(held=held, **other | {bend: FAR})", "far", AUDIT),
    ("inputgrad/audit/probe.py", "torch.expm1(torch.as_tensor(total))", "torch.as_tensor(total)", HARD),
    ("inputgrad/audit/recorder.py", "return made_of(t, alike)", "return False", PUBLIC),
    ("inputgrad/audit/recorder.py", "(t if lives else t.detach())", "t", PUBLIC),
    ("inputgrad/audit/probe.py", "o if id(o) in inner else self._bent(o, pieces, s)", "self._bent(o, pieces, s)", HARD),
    ("inputgrad/audit/recorder.py", "self.inner += 0.0 if inputs else root", "pass", HARD),
    ("inputgrad/audit/slopes.py", "if share > SEEN:", "if share > 0.01:", MEASURED),
    ("inputgrad/audit/slopes.py", "line in asked or line in turned", "line in asked", MEASURED),
    ("inputgrad/audit/slopes.py", "lambda: bool(wrong_layers(s))", "lambda: False", MEASURED),
    ("inputgrad/audit/recorder.py", "and not self.narrow", "", MEASURED),
    ("inputgrad/audit/cuts.py", "here.line == self.probe.released", "False", MEASURED),
    ("inputgrad/audit/cuts.py", 'or ("" if torch.is_grad_enabled() else "torch.no_grad()")', "or ''", MEASURED),
    ("inputgrad/audit/cuts.py", "if self.probe.busy or self.probe.done or self.functions:", "if False:", PUBLIC),
    ("inputgrad/audit/verdict.py", "subject.scripted and isinstance(gap, tuple)", "False", MEASURED),
    ("inputgrad/audit/verdict.py", 'kind = "wrong gradient"', "pass", MEASURED),
    (
        "inputgrad/audit/recorder.py",
        "if self.is_weight(z) or self.is_output(z, roots):",
        "if self.is_weight(z):",
        MEASURED,
    ),
    ("inputgrad/audit/recorder.py", 'thing = vars(thing).get("_actual_script_module", thing)', "pass", MEASURED),
    ("inputgrad/audit/recorder.py", "old.to(w) for w, old", "w for w, old", AUDIT + " " + HARD),
    ("inputgrad/audit/subject.py", "self.start, self.calls = start, call", "self.calls = call", MEASURED),
    ("inputgrad/audit/verdict.py", "if a.empty < 1}", "if a.empty < 0}", MEASURED),
    (
        "inputgrad/audit/tensors.py",
        "return unwrapped(unwrapped(t).detach().clone())",
        "return unwrapped(t).detach().clone()",
        MEASURED,
    ),
    ("inputgrad/gradients/taylor.py", "more + slope * second", "more + second", RESIDUAL),
    ("inputgrad/gradients/taylor.py", "s * (1 - s) * (2 + z * (1 - 2 * s))", "s * (1 - s) * 2", RESIDUAL),
    ("inputgrad/gradients/taylor.py", "any(getattr(model, h) for h in HOOKS)", "False", RESIDUAL),
    ("inputgrad/gradients/taylor.py", 'or "forward" in vars(model)', "", RESIDUAL),
    ("inputgrad/audit/checks.py", "if 0 <= b / a < 0.3:", "if False:", AUDIT),
    ("inputgrad/audit/checks.py", "term > base and root > 1e3", "False", HARD),
    ("inputgrad/audit/__init__.py", "if left > 0:", "if False:", AUDIT),
    ("inputgrad/audit/__init__.py", "if spoilt or not torch.isfinite(total):", "if False:", HARD),
    (
        "inputgrad/audit/subject.py",
        "            data = data.to(self.dtype, copy=True)",
        "            data = data.to(self.dtype)",
        AUDIT,
    ),
    (EVALUATE, "still &= ~broken_at.standing(", "still &= broken_at.standing(", f"{ATTACK} -k smaller_one"),
    (EVALUATE, " and tasks.of(victim.y).has_classes", "", f"{ATTACK} -k smaller_one"),
    (EVALUATE, "not (step.sees_all_examples or step.radii)", "not step.sees_all_examples", ATTACK),
    (EVALUATE, "if step.epsilon != threat.epsilon]", "if step.epsilon > threat.epsilon]", f"{ATTACK} -k headline"),
    (
        "pipeline/results/robustness.py",
        "standing &= broken[threat.epsilon]",
        "standing = set()",
        f"{REPORT}/test_scores.py",
    ),
    (
        "pipeline/results/robustness.py",
        'knobs["steps"] * knobs["restarts"]))',
        'knobs["steps"]))',
        f"{AROUND} -k longer",
    ),
    ("pipeline/results/reproduced.py", "value / factor, value * factor", "value / factor, value", REPRODUCED),
    ("pipeline/results/reproduced.py", "2 * math.hypot", "math.hypot", REPRODUCED),
    ("pipeline/results/collapse.py", "max(earlier) - last", "earlier[-1] - last", COLLAPSE),
    ("pipeline/results/collapse.py", 'one.sort_values("epoch")', "one", COLLAPSE),
    ("pipeline/stages/robust_validation.py", "task.broken(model(x), y) | ", "", COLLAPSE),
    ("pipeline/data/_measures.py", "copy.deepcopy(model)", "model", f"{MEASURES} -k left_alone"),
    ("pipeline/data/_measures.py", "if not math.isfinite(numbers[name])", "if False", f"{MEASURES} -k wrong_number"),
    ("pipeline/report/published.py", "if low > published.robust", "if high > published.robust", f"{AROUND} -k above"),
    ("pipeline/report/published.py", "if high < published.robust", "if low < published.robust", f"{AROUND} -k above"),
    (
        "pipeline/report/attack_words.py",
        "study.task.has_classes and (absent := missing(study))",
        "False",
        f"{AROUND} -k limitations",
    ),
    (
        "pipeline/report/words.py",
        "measure.good * robust[name].value.mean",
        "-robust[name].value.mean",
        f"{KEPT} -k most",
    ),
    ("pipeline/report/words.py", 'if measure.verdict(quantity) == "better"]', "]", f"{KEPT} -k most"),
    (
        "inputgrad/robustness/scores.py",
        'found.index.get_level_values("norm") == norm',
        ":",
        "tests/inputgrad/test_scores.py",
    ),
    ("pipeline/tracking/server.py", "if remembered():", "if False:", f"{TRACKING} -k never_answers"),
    ("pipeline/tracking/server.py", "< REMEMBERED", "< 1e99", f"{TRACKING} -k never_answers"),
    (
        "pipeline/tracking/server.py",
        "moment and max(moment, self.run.info.start_time)",
        "moment",
        f"{TRACKING} -k begins",
    ),
    ("pipeline/tracking/current.py", "if wanted == shown(study_name):", "if True:", f"{TRACKING} -k going_back"),
    ("pipeline/stages/runner.py", "        before.check(study)\n", "", "tests/pipeline/test_before.py"),
    ("pipeline/tracking/contents.py", 'for end in ("low", "high", "n")', 'for end in ("low", "high")', TRACKING),
    ("pipeline/tracking/ui.py", "sys.stdin.read()", "0", "tests/pipeline/test_ui.py"),
    ("pipeline/pruning.py", "folder.name not in used and ", "", "tests/pipeline/test_pruning.py -k uses_stays"),
    ("pipeline/pruning.py", " and not is_held(folder)", "", "tests/pipeline/test_pruning.py -k agrees"),
    ("pipeline/skeleton.py", "if file.exists():", "if False:", "tests/pipeline/test_skeleton.py -k mistakes"),
    ("pipeline/loading.py", "seeds[0] if seed is None else seed", "seeds[0]", f"{TRACKING} -k any_batch_size"),
    ("inputgrad/robustness/unit_test.py", "if there > largest:", "if True:", UNIT),
    ("inputgrad/robustness/unit_test.py", "1 / (limit - here)", "1 / (here - limit)", UNIT),
    ("inputgrad/attacks/_classes.py", "rank < kept", "rank <= kept", f"{FAST} -k kept"),
    (
        "inputgrad/attacks/_apgd.py",
        "rows.best_value, pruned[i]",
        "-rows.best_value, pruned[i]",
        f"{FAST} -k best_values",
    ),
    ("inputgrad/robustness/settings.py", "if self.changes(name, knobs) is not None", "if True", f"{FAST} -k changes"),
    ("inputgrad/robustness/unit_test.py", "self.weight[index]", "self.weight[index.flip(0)]", UNIT),
    ("inputgrad/robustness/unit_test.py", "missed += len(tests.unbroken())", "missed += len(made)", UNIT),
    ("inputgrad/robustness/unit_test.py", "given[-1] if given", "given[0] if given", UNIT),
    ("inputgrad/attacks/hop_skip_jump.py", "expand(inside & broken, near)", "expand(broken, near)", HARD_LABEL),
    ("inputgrad/attacks/hop_skip_jump.py", ".nonzero()[:, 0][:examples]", ".nonzero()[:, 0]", HARD_LABEL),
    ("inputgrad/attacks/hop_skip_jump.py", "torch.manual_seed(seed)", "torch.seed()", HARD_LABEL),
    ("pipeline/data/_file.py", "whole = f.read() == found", "whole = True", f"{DATA} -k changed_bit"),
    ("pipeline/data/_file.py", 'np.memmap(file, dtype, "c"', 'np.memmap(file, dtype, "r+"', f"{DATA} -k mapped"),
    ("pipeline/pruning.py", "for name in study.checkpoints]", "for name in []]", f"{CHECKPOINTS} -k prune"),
    ("pipeline/study/checks.py", "if name in study.losses:", "if False:", f"{CHECKPOINTS} -k mistake"),
    ("pipeline/study/origins.py", '*files_of("checkpoint", vars(given))', "", CHECKPOINTS),
    ("pipeline/fingerprint.py", "if self.looks or name in self.words", "if name in self.words", IMPORTS),
    ("pipeline/fingerprint.py", "self.objects |= found.objects", "pass", IMPORTS),
    ("pipeline/fingerprint.py", "(home := table(package, self.tops).get(last))", "(home := None)", IMPORTS),
    ("pipeline/imports.py", "and node not in decided", "and node in decided", IMPORTS),
    ("pipeline/results/opened.py", "for name in self.study.checkpoints:", "for name in []:", CHECKPOINTS),
    ("pipeline/report/tables.py", "wilson(value, n)", "(value, value)", f"{AROUND} -k elsewhere"),
    ("inputgrad/losses/gradient_norm.py", '1 / (2 * s.of("batch_size"))', '1 / s.of("batch_size")', STRENGTHS),
    (SUM, "torch.stack([own * means[name] for", "torch.stack([means[name] for", SUMS),
    (SUM, "weighted + self.weight_of_task * task.mean()", "weighted + len(live) * task.mean()", SUMS),
    (SUM, "math.lcm(", "max(", SUMS),
    ("inputgrad/losses/__init__.py", "self.strength * self.each(", "self.each(", SUMS),
    (
        "inputgrad/losses/__init__.py",
        "if self.points is not None:\n            return",
        "if False:\n            return",
        SUMS,
    ),
    (
        CONTAINERS,
        "if len(self.tensors) > 1:\n            sizes",
        "if False:\n            sizes",
        INPUTS,
    ),
    (
        CONTAINERS,
        "            return point\n\n        outputs",
        "            return point.detach()\n\n        outputs",
        INPUTS,
    ),
    (CONTAINERS, "if len(calls) > 1:", "if False:", INPUTS),
    (CONTAINERS, "model(given) if takes(model, given) else", "model(given) if False else", INPUTS),
    (CONTAINERS, "order = torch.argsort(index, stable=True)", "order = torch.arange(len(index))", INPUTS),
    (FORWARD, "if len(t) != self.size:", "if False:", INPUTS),
    (FORWARD, "isinstance(self.model, nn.Module) and self.inputs is None", "True", INPUTS),
    (DOUBLE, "if weights and any(name in ENDS", "if False and any(name in ENDS", REFUSALS),
    ("inputgrad/losses/_refuse.py", "value.clone() if value.is_inference()", "value if value.is_inference()", STEP),
    ("inputgrad/step.py", "weight or 1 / self.accumulate)", "1 / self.accumulate)", STEP),
    ("inputgrad/step.py", "number = self.calls // self.accumulate", "number = self.calls", STEP),
    ("inputgrad/losses/_residual.py", "if key not in self._first:", "if True:", RESIDUAL),
    ("inputgrad/losses/_residual.py", "range(1, rows(self.x).shape[1])", "range(1, 2)", RESIDUAL),
    ("inputgrad/testing.py", "if (gap := relative_gap(again, once)) > rtol:", "if False:", TESTING),
    ("inputgrad/testing.py", "> rtol * max(abs(difference)", "> 1e9 * max(abs(difference)", TESTING),
    ("pipeline/study/code.py", '*(part("inputgrad.losses", term, one) for term, one in terms.items())', "", IN_A_STUDY),
    ("inputgrad/step.py", "if id(leaf) not in own]", "if False]", STEP),
    ("inputgrad/step.py", "*(t for found in self.others.values() for t in found)", "", STEP),
    (FORWARD, "self.made += other.made", "pass", SUMS),
    (CONTAINERS, 'given._make(each) if hasattr(given, "_make") else', "", INPUTS),
    ("inputgrad/losses/_residual.py", "if found.shape == (n, n) and n > 1:", "if False:", REFUSALS),
]


def changed(row: Row) -> bool:
    """Whether the code has moved on: what the row breaks does not stand in its file exactly once."""
    file, old, _, _ = row
    path = ROOT / file
    return not path.is_file() or path.read_text(encoding="utf-8").count(old) != 1


def notices(file: str, old: str, new: str, tests: str, copy: Path) -> bool:
    """Whether the tests fail on the broken code."""
    path = copy / file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(old, new), encoding="utf-8")
    run = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(run, cwd=copy, capture_output=True, text=True)
    path.write_text(whole, encoding="utf-8")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1


def main(wanted: tuple[str, ...]) -> None:
    """Try the rows of the wanted files and print the breaks that no test notices."""
    rows = [row for row in MUTATIONS if not wanted or row[0].startswith(wanted)]
    for row in filter(changed, rows):
        print(f"NOT TRIED: {row[0]} does not hold {row[1]!r} exactly once")
    rows = [row for row in rows if not changed(row)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "copy"
        shutil.copytree(
            ROOT, target, ignore=shutil.ignore_patterns(".venv", ".state", ".dvc", ".git", "mlartifacts", "runs")
        )
        missed = [row for row in rows if not notices(*row, target)]
    for file, old, new, tests in missed:
        print(f"NOT NOTICED by {tests}: {file}: {old!r} -> {new!r}")
    print(f"{len(rows) - len(missed)} of {len(rows)} noticed")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
