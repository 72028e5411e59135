"""`python -m jaxgen`, and what the command `jaxgen` starts."""

from __future__ import annotations

import sys


def main() -> None:
    """The command; a Ctrl-C while it is being imported ends in one line, too."""
    try:
        from jaxgen.cli import main as command
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
