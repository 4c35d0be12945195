"""python -m pipeline …"""

import _signal  # type: ignore[import-not-found]  # it is there already, while `signal` takes some milliseconds

early: list[int] = []
if __name__ == "__main__":
    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, lambda number, _: early.append(number))

from pipeline import interrupts  # noqa: E402

if __name__ == "__main__":
    interrupts.install()  # before anything else is imported
    if early:
        interrupts.end()

import gc  # noqa: E402
import sys  # noqa: E402

gc.set_threshold(100_000, 20, 100)  # imports make many objects and no garbage


def run() -> None:
    """The command line; a Python without the project's packages gets one line instead of a traceback."""
    try:
        from pipeline.cli import main
        from pipeline.workers import process

        process.fresh = True
        try:
            main()
        except SystemExit as end:
            interrupts.code = end.code if isinstance(end.code, int) else int(end.code is not None)
            raise
        interrupts.code = 0
    except ModuleNotFoundError as error:
        print(
            f"error: this Python has no '{error.name}'; fix: make setup, then: source .venv/bin/activate",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    run()
