"""The table of breaks is that of today's code: a row whose text has moved on would test nothing."""

import pytest

from benchmarks.mutations import MUTATIONS, ROOT, changed


@pytest.mark.parametrize("row", MUTATIONS, ids=[f"{n}:{row[0]}" for n, row in enumerate(MUTATIONS)])
def test_every_row_breaks_one_place_and_names_tests(row):
    file, old, new, tests = row
    assert not changed(row), f"{file} does not hold {old!r} exactly once"
    assert old != new
    assert (ROOT / tests.split()[0]).exists()


def test_a_row_whose_text_moved_is_noticed():
    file, old, new, tests = MUTATIONS[-1]
    assert changed(("inputgrad/nowhere.py", old, new, tests))
    assert changed((file, "text that stands nowhere", new, tests))
    assert changed((file, "\n", new, tests))
