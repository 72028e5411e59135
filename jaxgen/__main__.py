"""`python -m jaxgen`, and what the command `jaxgen` starts."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """The command; a Ctrl-C while it is being imported ends in one line, too."""
    signal.signal(signal.SIGINT, _end)
    from jaxgen.cli import main as command

    command()


def _end(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
