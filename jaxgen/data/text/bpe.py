"""Byte-pair tokens trained on one's own captions, by the library `tokenizers`.

Byte level (Radford et al. 2019): every text of any language can be written, nothing is unknown.
Texts are read in Unicode's NFC form and in lower case. The first ids are those of
`jaxgen.data.text.tokens.SPECIAL`, then the 256 bytes, then the merged pieces; <unk> is never given.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from jaxgen.data.text import unicode
from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.tokens import SPECIAL, fill
from jaxgen.errors import UserError, one_line, shown


def train(texts: Iterable[str], size: int) -> str:
    """A tokenizer of at most `size` ids, as JSON text. The same texts in order: the same result.

    Raises:
      UserError: no text at all.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError("there are no captions to train a tokenizer on")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # With the space before it, a word is the same piece at the start of a text as within.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


class BPETokenizer:
    """Pieces of words, by a tokenizer that `train` made or that has the same first ids.

    Args:
      json_text: what the library `tokenizers` writes.
      length: ids per prompt, the start included.

    Raises:
      UserError: text that is no tokenizer, other first ids, or no room for a piece.
    """

    def __init__(self, json_text: str, length: int):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json_text)
            ids = sorted(self._tokenizer.get_vocab().values())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the library raises plain Exceptions, and Rust's panics
            raise UserError(f"data.tokenizer_json is no tokenizer ({one_line(error)})") from None
        if ids != list(range(len(ids))):
            raise UserError(f"a tokenizer's ids must be 0 to {len(ids) - 1}, each of them once")
        found = tuple(self._tokenizer.id_to_token(i) for i in range(len(SPECIAL)))
        if found != SPECIAL:
            raise UserError(f"a tokenizer's first ids must be {SPECIAL}, not {found}")
        if length < 2:
            raise UserError(f"a prompt's length must be at least 2 tokens, not {length}")
        # Texts that spell "<pad>" are text; padding and length are this class's own.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.length = length
        self.size = self._tokenizer.get_vocab_size()

    # By its JSON text: the library's own pickling loses `encode_special_tokens`.
    def __getstate__(self) -> tuple[str, int]:
        return self._tokenizer.to_str(), self.length

    def __setstate__(self, state: tuple[str, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def encode(self, text: str) -> Prompt:
        """The prompt of a text; its words are the pieces, those that don't fit are `cut`.

        Parts of a character are shown as U+FFFD, a space alone as "_".
        """
        ids = self.ids(text)
        tokens, mask = fill(ids, self.length)
        pieces = tuple(self._tokenizer.decode([i]).strip() or "_" for i in ids)
        room = self.length - 1
        return Prompt(tokens=tokens, mask=mask, words=pieces[:room], cut=pieces[room:])

    def ids(self, text: str) -> list[int]:
        """All ids of a text, without the start."""
        text = unicode.plain(text).strip()
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Another's tokenizer may have no <unk>.
            raise UserError(f"the tokenizer can't read {shown(text)} ({one_line(error)})") from None
