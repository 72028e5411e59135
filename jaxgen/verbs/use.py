"""What the uses of all verbs have alike."""

from __future__ import annotations

import functools
from typing import Generic, TypeVar

from jaxgen.task import Nets
from jaxgen.verbs import Verb

V = TypeVar("V", bound=Verb)


class Use(Generic[V]):
    """A trained model's verb, as `model.<verb>`.

    Attributes:
      verb: what the family offers.
      nets: variables of its nets, by name, which come to the device when they are asked for.
      name: the model's, for messages.
    """

    def __init__(self, verb: V, nets: Nets, name: str):
        self.verb, self.nets, self.name = verb, nets, name

    @functools.cached_property
    def variables(self) -> Nets:
        """Of the verb's own nets."""
        return {net: self.nets[net] for net in self.verb.nets}
