"""What a program needs while it runs, estimated from its shapes."""

from __future__ import annotations

from jaxgen import devices
from jaxgen.errors import UserError, shown

# A convolution holds its input and output, and XLA some scratch: 2.25 times the largest activation
# was measured for the 16-block SRResNet on a CPU.
LIVE = 3.0
MOST_BATCH = 2**16
SMALLER = "give a smaller batch or size"


def check_batch(batch: int) -> int:
    """The batch. Raises UserError: none that can be."""
    if not 1 <= batch <= MOST_BATCH:
        raise UserError(f"the batch must be from 1 to {MOST_BATCH}, not {shown(batch)}")
    return batch


def check_holds(needed: float, what: str, hint: str = SMALLER) -> None:
    """Before minutes of compiling: refuses what surely does not fit on a device.

    Args:
      needed: bytes of one array there, which is the least that it takes. what: has the verb, as "a
        picture of 64 x 64 pixels needs". hint: what to change.

    Raises:
      UserError: with what is needed and what there is.
    """
    devices.check_room(needed, f"{what} at least", hint)
