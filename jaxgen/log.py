"""The program's own log lines: `HH:MM:SS text` on stderr, from process 0 only.

The libraries below log much at the INFO level; theirs is left at WARNING.
"""

from __future__ import annotations

import logging
import sys

from absl import logging as absl_logging

log = logging.getLogger("jaxgen")


def setup() -> None:
    """Shows the log on stderr; called by the commands, not on import."""
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax, TFDS, Grain; absl's `app` says INFO
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
