"""CLIP's tokenizer: byte-pair pieces of a vocabulary file that the user gives, no network.

The file is OpenAI's `bpe_simple_vocab_16e6.txt.gz`, or a tokenizer of Hugging Face:
`tokenizer.json`, or `vocab.json` beside `merges.txt`; a folder that holds one of these will do.

A text becomes: HTML's signs as characters (twice), Unicode's NFC form, straight quotes, ligatures
and full-width forms as plain letters, single spaces, lower case. The original has the library ftfy
do part of it, which also guesses at texts of a wrong encoding ("cafÃ©"): this is left out, so that
a text's tokens depend on no version of it. "<|startoftext|>" and "<|endoftext|>" in a text are
text; in the original they end it, and what follows would not be seen.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from jaxgen.data.text import unicode
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError, one_line, shown

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
MERGES = 49152 - 256 - 2  # that count of OpenAI's file, which has five times as many
# Of the pieces that are merged within: endings, words, single digits, runs of other signs.
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_WORD_END = "</w>"
# As ftfy: quotes; and of the control characters, those that are no space go.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **{chr(i): None for i in (*range(9), *range(14, 28), 127)},
    }
)
# Latin ligatures; full-width and half-width forms, and their space.
_FORMS = re.compile(
    "[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06\uff01-\uffef\u3000]"
)


def clean(text: str) -> str:
    """A text as it is cut into pieces; see the module's text."""
    text = html.unescape(html.unescape(text))
    text = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return " ".join(unicodedata.normalize("NFC", text.translate(_PLAIN)).split()).lower()


class CLIPTokenizer:
    """Texts as CLIP's tokens: start, pieces, end, padding by 0.

    Args:
      vocabulary: id of each piece, and of `START` and `END`.
      merges: pairs of pieces in the order in which they are merged.
      length: tokens of an encoded prompt, start, end and padding included.
      added: further words, which are looked for before a text is cut into pieces; one that is there
        several times has several ids.
      first: id of the first of them; None: `size`.

    Attributes:
      size: one more than the largest id of the vocabulary.
      start, end: the ids.

    Raises:
      UserError: no start or end, pieces that are missing, or no room for a piece.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        length: int = LENGTH,
        added: Sequence[str] = (),
        first: int | None = None,
    ):
        lacking = [piece for piece in (START, END) if piece not in vocabulary]
        if lacking:
            raise UserError(f"the vocabulary has no {' and no '.join(lacking)}: it is not CLIP's")
        if length < 3:
            raise UserError(f"a prompt's length must be at least 3 tokens, not {length}")
        try:
            model = models.BPE(dict(vocabulary), list(merges), end_of_word_suffix=_WORD_END)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the library raises plain Exceptions, and Rust's panics
            raise UserError(f"the vocabulary does not fit its merges ({one_line(error)})") from None
        self._tokenizer = tokenizers.Tokenizer(model)
        pieces = pre_tokenizers.Split(tokenizers.Regex(_PIECES), "removed", invert=True)
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, to_bytes])
        self.start, self.end = vocabulary[START], vocabulary[END]
        self.length, self.size = length, max(vocabulary.values()) + 1
        self._added: dict[str, list[int]] = {}
        for i, word in enumerate(added, self.size if first is None else first):
            self._added.setdefault(clean(word), []).append(i)
        # The longest first: one may begin with another.
        words = sorted(map(re.escape, self._added), key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(words)})") if words else None

    def encode(self, text: str) -> Prompt:
        """The prompt of a text; its words are the pieces, those that don't fit are `cut`."""
        found, pieces = self._pieces(text)
        room = self.length - 2
        ids = found[:room]
        tokens = np.zeros(self.length, np.int32)
        tokens[: len(ids) + 2] = [self.start, *ids, self.end]
        mask = np.arange(self.length) < len(ids) + 2
        return Prompt(tokens=tokens, mask=mask, words=pieces[:room], cut=pieces[room:])

    def to_json(self) -> str:
        """Its vocabulary and merges, in Hugging Face's form; see `from_json`."""
        return str(self._tokenizer.to_str())

    def ids(self, text: str) -> list[int]:
        """All ids of a text, without start and end."""
        return self._pieces(text)[0]

    def _pieces(self, text: str) -> tuple[list[int], tuple[str, ...]]:
        """(ids, what is read of each) of a text, with the words that were added."""
        text = clean(unicode.plain(text))
        ids: list[int] = []
        pieces: list[str] = []
        for part in self._split.split(text) if self._split else [text]:
            if part in self._added:
                ids += self._added[part]
                pieces += [part] * len(self._added[part])
            else:
                found = self._encoding(part)
                ids += found.ids
                pieces += map(_readable, found.tokens)
        return ids, tuple(pieces)

    def _encoding(self, text: str) -> Any:
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(f"the tokenizer can't read {shown(text)} ({one_line(error)})") from None


# What reading a file of another kind, or a damaged one, raises.
_DAMAGE = (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, AttributeError)


def read_tokenizer(path: str | Path, length: int = LENGTH) -> CLIPTokenizer:
    """The tokenizer of a vocabulary file, or of a folder that holds one.

    Raises:
      UserError: no such file, truncated, or not a vocabulary of CLIP's kind.
    """
    path = _find(Path(path).expanduser())
    try:
        if path.name.endswith((".txt.gz", ".txt")):
            vocabulary, merges = _openai(path)
        else:
            vocabulary, merges = _hugging_face(path)
        return CLIPTokenizer(vocabulary, merges, length)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise UserError(
            f"{path} is truncated or no vocabulary of CLIP's ({one_line(error)}); fetch it again"
        ) from None


def from_json(
    text: str, length: int = LENGTH, added: Sequence[str] = (), first: int | None = None
) -> CLIPTokenizer:
    """The tokenizer that `CLIPTokenizer.to_json` wrote, as a converted model's config holds it.

    Args: length, added, first: as of `CLIPTokenizer`.

    Raises:
      UserError: it is of another kind, or was changed.
    """
    try:
        return CLIPTokenizer(*_pieces_of(json.loads(text)), length, added, first)
    except _DAMAGE as error:
        raise UserError(
            f"the config's model.vocabulary is no tokenizer of CLIP's ({one_line(error)}): convert "
            "the weights again"
        ) from None


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    names = ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz")
    for name in names:
        if (path / name).is_file():
            return path / name
    what = f"has none of {', '.join(names)}" if path.is_dir() else "does not exist"
    raise UserError(
        f"CLIP's vocabulary {path} {what}; give bpe_simple_vocab_16e6.txt.gz of github.com/openai/"
        "CLIP, or a folder with a Hugging Face tokenizer"
    )


def _openai(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    lines = text.split("\n")[1 : MERGES + 1]
    merges = [_pair(line) for line in lines if line]
    if len(merges) < MERGES:
        raise UserError(
            f"it holds {len(merges):,} merges where CLIP's has {MERGES:,}: it is truncated; fetch "
            "it again"
        )
    letters = list(_letters())
    pieces = [*letters, *(letter + _WORD_END for letter in letters)]
    pieces += ["".join(pair) for pair in merges]
    return {piece: i for i, piece in enumerate([*pieces, START, END])}, merges


def _hugging_face(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    said = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "vocab.json":
        vocabulary = said
        merges = path.with_name("merges.txt")
        if not merges.is_file():
            raise UserError("merges.txt must be beside it")
        # Its first line is the format's version.
        pairs = [line for line in merges.read_text(encoding="utf-8").split("\n")[1:] if line]
        return vocabulary, [_pair(one) for one in pairs]
    return _pieces_of(said)


def _pieces_of(said: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) of what a tokenizer.json holds."""
    vocabulary = dict(said["model"]["vocab"])
    vocabulary |= {one["content"]: one["id"] for one in said.get("added_tokens") or ()}
    return vocabulary, [_pair(one) for one in said["model"]["merges"]]


def _pair(said: Any) -> tuple[str, str]:
    first, second = said.split() if isinstance(said, str) else said
    return first, second


def _byte_order() -> list[int]:
    """The bytes in the order of their ids: those that are written as themselves come first."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return plain + [i for i in range(256) if i not in plain]


def _letters() -> str:
    """The sign that stands for each byte, in the order of their ids (GPT-2's)."""
    others = (chr(256 + i) for i in range(256))
    return "".join(next(others) if i >= 188 else chr(byte) for i, byte in enumerate(_byte_order()))


_BYTES = dict(zip(_letters(), _byte_order(), strict=True))


def _readable(piece: str) -> str:
    """A piece as the user wrote it; parts of a character as U+FFFD."""
    data = bytes(_BYTES[sign] for sign in piece.removesuffix(_WORD_END))
    return data.decode("utf-8", errors="replace")
