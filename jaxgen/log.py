"""The program's own log lines: `HH:MM:SS text` on stderr, from process 0 only.

The libraries below log much at the INFO level; theirs is left at WARNING.
"""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("jaxgen")


def setup() -> None:
    """Shows the log on stderr; called by the commands, not on import."""
    if log.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def only_errors() -> None:
    """Silences the log on hosts other than the first."""
    log.setLevel(logging.ERROR)
