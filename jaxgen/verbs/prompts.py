"""Reading a prompt aloud: what a model does not know of a text is said."""

from __future__ import annotations

from collections.abc import Callable

from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.tokens import complaint
from jaxgen.log import log


def read_aloud(read: Callable[[str], Prompt], prompt: str | Prompt) -> Prompt:
    """The prompt of a text, with a warning where words of it are unknown or too many.

    Args:
      read: the verb's; a prompt that was read already is given back as it is.
    """
    if isinstance(prompt, Prompt):
        return prompt
    found = read(prompt)
    if problem := complaint(found):
        log.warning("%s", problem)
    return found
