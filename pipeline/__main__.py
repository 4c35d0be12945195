"""python -m pipeline …"""

import sys

try:
    from pipeline.cli import main
except ModuleNotFoundError as error:
    print(
        f"error: this Python has no '{error.name}'; mend: make setup, then: source .venv/bin/activate",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    main()
