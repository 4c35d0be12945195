"""python -m pipeline …"""

import sys


def run() -> None:
    """The command line; a Python without the project's packages gets one line instead of a traceback."""
    try:
        from pipeline.cli import main
        from pipeline.workers import process

        process.fresh = True
        main()
    except ModuleNotFoundError as error:
        print(
            f"error: this Python has no '{error.name}'; fix: make setup, then: source .venv/bin/activate",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    run()
