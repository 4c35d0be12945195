"""`inputgrad scan` against losses whose verdict is known: how many void ones it finds, how many right ones it accuses.

python -m benchmarks.scan [CASES_FOLDER ...] [--packages FOLDER]

Known verdicts: the decorators and the table below for the losses of tests/inputgrad/audit; `# void`, `# right` and
`# ours` in the pages; in a folder of cases, one loss a file, the EXPECTED string or the docstring. A void loss is
found if a finding or its loss is in its lines. Counted apart: notes (create_graph=self.training), and losses that are
partly detached, which hold a factor that is trained. With --packages, every finding in a folder of installed packages
is listed, to be read by a person, and the time is said.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inputgrad.scan import Finding, files, of_text, scan

ROOT = Path(__file__).parents[1]
AUDIT = ROOT / "tests" / "inputgrad" / "audit"
HARD = {
    "detached": """void_near void_between test_a_void_penalty_next_to_a_moved_input
        test_value_and_slope_in_one_target test_a_loss_without_any_graph""",
    "depends": """test_a_laplacian_alone test_a_net_of_two_arguments test_a_critic_of_real_and_fake noisy in_parts
        shuffled mixed step_of_length_one regression test_constants_of_single_precision test_one_logit_and_class_numbers
        test_a_mask_for_each_example test_checkpoints test_nan_is_not_a_constant test_a_gradient_of_a_scaled_loss
        test_a_penalty_with_a_backward_of_its_own test_outputs_that_other_outputs_are_made_of
        test_weights_added_to_a_frozen_net""",
}
"""What tests/inputgrad/audit/test_hard_losses.py asserts of its losses, by the name of the function or of the test."""


class Case(NamedTuple):
    source: str
    name: str
    void: bool
    partly: bool
    found: list[Finding]


def of_page(page: Path) -> Iterator[Case]:
    for n, (label, code) in enumerate(
        re.findall(r"```python\n# (void|right|ours)\b(.*?)```", page.read_text("utf-8"), re.S)
    ):
        found = of_text(files.Text(f"import torch\n# {code}"), page)
        yield Case("pages", f"{page.stem}, block {n + 1}: {label}", label == "void", False, found)


def of_table(path: Path) -> Iterator[Case]:
    """The losses of a test file: each is a function with a decorator that says its verdict, or is named in HARD."""
    text = files.Text(path.read_text("utf-8"))
    found = of_text(text, path)
    for node in ast.parse(text.code).body:
        if isinstance(node, ast.FunctionDef) and (label := label_of(node, path)) is not None:
            lines = {str(n) for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
            here = [f for f in found if {f.line, f.loss} & lines]
            yield Case("tests", f"{path.stem}: {node.name}", label == "detached", label.startswith("partly"), here)


def label_of(node: ast.FunctionDef, path: Path) -> str | None:
    for decorator in node.decorator_list:
        if (
            isinstance(decorator, ast.Call)
            and isinstance(decorator.func, ast.Name)
            and decorator.func.id in ("case", "way")
        ):
            return ast.unparse(decorator.args[0]).strip("'")
    if path.stem == "test_hard_losses":
        return next((kind for kind, names in HARD.items() if node.name in names.split()), None)
    return None


def of_folder(folder: Path) -> Iterator[Case]:
    """A case is void if what is expected begins with a verdict 'detached' or 'partly detached'."""
    for path in sorted(folder.glob("[0-9]*.py")):
        text = path.read_text("utf-8")
        expected = re.search(r'^EXPECTED = "(.*)"|kind == "(\w[\w ]*)"', text, re.M)
        said = "" if expected is None else (expected[1] or expected[2]).split(";")[0][:45]
        partly = said.startswith(("partly", "no clean"))
        yield Case(folder.name, path.stem, "detached" in said and not partly, partly, of_text(files.Text(text), path))


def show(cases: list[Case]) -> None:
    print(f"{'':12}{'void':>6}{'found':>7}{'noted':>7}{'partly':>8}{'found':>7}{'right':>7}{'accused':>9}")
    for source in [*dict.fromkeys(c.source for c in cases), "all"]:
        here = [c for c in cases if source in (c.source, "all")]
        void, partly = [c for c in here if c.void], [c for c in here if c.partly]
        right = [c for c in here if not c.void and not c.partly]
        found, accused = sum(map(is_found, void)), sum(map(is_found, right))
        noted = sum(bool(c.found) and not is_found(c) for c in void)
        counts = f"{len(void):6}{found:7}{noted:7}{len(partly):8}{sum(map(is_found, partly)):7}"
        print(f"{source:12}{counts}{len(right):7}{accused:9}")
    print(f"recall {found / len(void):.2f} (with notes {(found + noted) / len(void):.2f}), n = {len(void)}")
    print(f"precision {found / max(found + accused, 1):.2f}, n = {found + accused}")
    for case in cases:
        if (case.void or case.partly) and not is_found(case):
            print(f"{'noted' if case.found else 'partly' if case.partly else 'missed':8} {case.source}: {case.name}")
        for finding in case.found if not case.void and not case.partly else []:
            print(f"{'note' if finding.note else 'ACCUSED':8} {case.source}: {case.name}: {finding}")


def is_found(case: Case) -> bool:
    return any(not f.note for f in case.found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", type=Path)
    parser.add_argument("--packages", type=Path)
    given = parser.parse_args()
    pages = [*sorted((ROOT / "docs" / "for").glob("*.md")), ROOT / "docs" / "question.md", ROOT / "README.md"]
    cases = [case for page in pages for case in of_page(page)]
    for name in ("test_public_losses.py", "test_hard_losses.py", "test_variations.py"):
        cases += of_table(AUDIT / name)
    for folder in given.cases:
        cases += of_folder(folder)
    show(cases)
    if given.packages is not None:
        print(scan([given.packages]))


if __name__ == "__main__":
    main()
