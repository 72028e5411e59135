"""What was computed beforehand, in one ArrayRecord file: written whole, and read at random.

Record 0 is JSON about the file: its "format" and what the reader should know. The others are the
writer's own: text features (`jaxgen.data.text.features`), and here the codes or latents of
pictures.

Layout of such a file: one record per training picture, in the data's order: int32 its meaning, then
row by row uint32 codes, or the latents' float32 moments. The first record says of which first stage
("first_stage", the fingerprint of the part) and of which data they are, and both are checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.shard import SHARE
from jaxgen.errors import NO_JSON, UserError, one_line
from jaxgen.whole import replacing

# What reading a file of another kind, or a damaged one, raises.
DAMAGE = (*NO_JSON, LookupError, RuntimeError, AttributeError, TypeError, struct.error)


def write(
    path: str | os.PathLike, kind: str, about: Mapping[str, Any], rows: Iterable[bytes]
) -> int:
    """Writes a file, all or nothing; returns the number of rows.

    Args:
      path: of the file; an older one is replaced.
      kind: its format. about: what the reader should know, as JSON.
      rows: the records; what their iterator raises leaves an older file as it was.

    Raises:
      UserError: the file can't be written.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path = Path(path).expanduser()
    count = 0
    with replacing(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One record per group: read at random, a group is read whole.
        writer = ArrayRecordWriter(str(part), "group_size:1")
        try:
            writer.write(json.dumps({"format": kind, **about}).encode())
            for row in rows:
                writer.write(row)
                count += 1
        finally:
            writer.close()
    return count


class Reader:
    """Random access to a file of `write` that a config names; it pickles as its path.

    Attributes:
      about: what `write` was told.
      KEY, KIND, HOLDS, REMEDY: of a kind of file: the config's key, the format, and for messages
        what it holds and how it is made anew.

    Raises:
      UserError: no such file, or another kind of file.
    """

    KEY: ClassVar[str]
    KIND: ClassVar[str]
    HOLDS: ClassVar[str]
    REMEDY: ClassVar[str]

    def __init__(self, path: str | os.PathLike):
        self.path = os.path.expanduser(os.fspath(path))
        self._open()

    def _open(self) -> None:
        from array_record.python.array_record_module import ArrayRecordReader

        if not os.path.isfile(self.path):
            raise UserError(f"{self.KEY}={self.path}: no such file; {self.REMEDY}")
        with self._damage(f"is no file of {self.HOLDS}"):
            # As the library advises for random access.
            options = "readahead_buffer_size:0,max_parallelism:0"
            self._records = ArrayRecordReader(self.path, options)
            self.count = self._records.num_records() - 1
            self.about = json.loads(self._records.read([0])[0])
            if self.about.pop("format") != self.KIND:
                raise ValueError("another format")
            self.look()

    def look(self) -> None:
        """What a kind of file reads at once; may raise any of `DAMAGE`."""

    def row(self, index: int) -> bytes:
        """Row `index`, from 0, of `count`; raises any of `DAMAGE`."""
        return self._records.read([index + 1])[0]

    @contextlib.contextmanager
    def _damage(self, what: str = "is damaged") -> Iterator[None]:
        """Turns what reading raises into one line."""
        try:
            yield
        except DAMAGE as error:
            raise UserError(
                f"{self.KEY}={self.path} {what} ({one_line(error)}); {self.REMEDY}"
            ) from None

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        self.path = path
        self._open()


# ----------------------------------------------------------------- what a first stage made of data

# What of a `data` section decides which pictures there are.
_DATA = ("source", "size", "holdout", "objects", "count", "crop", "on_bad")
_LOOKED_AT = 16  # pictures that are compared, of all


def about_data(
    data: ConfigDict, records: Any, captions: Iterable[tuple[str, ...]]
) -> dict[str, Any]:
    """What tells one set of training pictures from another, as JSON.

    Args: records: of `data`, of which a few are looked at. captions: of all of them.
    """
    digest, count = hashlib.sha256(), len(records)
    for texts in captions:
        digest.update(repr(tuple(texts)).encode(errors="surrogatepass"))
    for i in range(0, count, max(1, count // _LOOKED_AT)):
        digest.update(np.ascontiguousarray(records[i]["image"]).tobytes())
    settings = {key: data[key] for key in _DATA}
    return json.loads(
        json.dumps({**settings, "pictures": count, "digest": digest.hexdigest()[:16]})
    )


class Made(Reader):
    """A file of what a first stage makes of each training picture: `read(i)` -> (meaning, array).

    Attributes:
      about: "grid" (the array's shape), "first_stage" and "data", as `write_made` was told; and of
        a share which it is.
      JOIN: how shares become a whole.
      FIELD: of an example. STORED, SEEN: types in the file and in an example.
    """

    JOIN: ClassVar[str]
    FIELD: ClassVar[str]
    STORED: ClassVar[str]
    SEEN: ClassVar[Any]

    def look(self) -> None:
        """See `Reader`."""
        self._shape = tuple(self.about["grid"])

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> tuple[int, np.ndarray]:
        """Of the picture with this number.

        Raises:
          UserError: a damaged record.
        """
        with self._damage():
            record = self.row(index)
            made = np.frombuffer(record, self.STORED, offset=4).astype(self.SEEN)
            return struct.unpack_from("<i", record)[0], made.reshape(self._shape)

    def check_first_stage(self, fingerprint: str) -> None:
        """Raises UserError for a file of another first stage, or of one trained on since."""
        if self.about.get("first_stage") != fingerprint:
            raise UserError(
                f"{self.KEY}={self.path} is of another first stage than parts.first_stage, or of "
                f"one that was trained on since; {self.REMEDY}"
            )

    def rows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Of all pictures of the file, in its order."""
        return map(self.read, range(self.count))

    def check_data(self, data: Mapping[str, Any]) -> None:
        """Raises UserError for a file of other pictures, or of a share of them."""
        if SHARE in self.about:
            raise UserError(
                f"{self.KEY}={self.path} is share {self.about[SHARE]['number']} of "
                f"{self.about[SHARE]['count']}: {self.JOIN}"
            )
        held = self.about.get("data", {})
        other = [f"{k} {held.get(k)!r}, not {v!r}" for k, v in data.items() if held.get(k) != v]
        if other:
            raise UserError(
                f"{self.KEY}={self.path} is of other pictures than the config's data "
                f"({'; '.join(other)}); {self.REMEDY}"
            )


class Codes(Made):
    """Codes int32 (h, w); "codes" of `about` is the codebook's size."""

    KEY, KIND, HOLDS = "model.codes", "jaxgen codes 1", "codes"
    REMEDY = "make the file anew: jaxgen prepare codes"
    JOIN = "put all together: jaxgen prepare codes --join FILE... -o FILE"
    FIELD, STORED, SEEN = "codes", "<u4", np.int32


class Latents(Made):
    """Moments float32 (h, w, 2 d) of scaled latents: mean and log of the variance."""

    KEY, KIND, HOLDS = "model.latents", "jaxgen latents 1", "latents"
    REMEDY = "make the file anew: jaxgen prepare latents"
    JOIN = "put all together: jaxgen prepare latents --join FILE... -o FILE"
    FIELD, STORED, SEEN = "moments", "<f4", np.float32


def write_made(
    kind: type[Made],
    path: str | os.PathLike,
    rows: Iterable[tuple[int, np.ndarray]],
    fingerprint: str,
    data: Mapping[str, Any],
    **about: Any,
) -> int:
    """Writes a file of a kind; returns the number of pictures.

    Args:
      rows: (meaning, array of one shape) of each training picture, in order.
      fingerprint: of the first stage (`jaxgen.weights.parts.Part.fingerprint`).
      data: of `about_data`. about: what else the file should say.

    Raises:
      UserError: the file can't be written.
    """
    waiting = iter(rows)
    first = next(waiting, None)
    if first is None:
        raise UserError(f"there are no pictures to write {kind.HOLDS} of to {path}")
    grid = list(first[1].shape)

    def packed() -> Iterator[bytes]:
        for meaning, one in itertools.chain([first], waiting):
            yield struct.pack("<i", meaning) + one.astype(kind.STORED).tobytes()

    about = {"grid": grid, **about, "first_stage": fingerprint, "data": dict(data)}
    return write(path, kind.KIND, about, packed())


class MadeRecords:
    """Random access to {made's field, "_captions", "meaning"}; reads no picture."""

    def __init__(self, made: Made, captions: Sequence[tuple[str, ...]]):
        self._made, self._captions = made, captions

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: int) -> dict[str, Any]:
        meaning, made = self._made.read(index)
        return {self._made.FIELD: made, "_captions": self._captions[index], "meaning": meaning}


class MakeExample:
    """One of `MadeRecords` -> {field, "meaning"}, and what is read of the captions.

    Args:
      field: of what was made.
      read: (captions, generator) -> such as tokens and mask; None: they are left out.
    """

    def __init__(
        self,
        field: str,
        read: Callable[[tuple[str, ...], np.random.Generator], dict[str, np.ndarray]] | None,
    ):
        self.field, self.read = field, read

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        text = self.read(record["_captions"], rng) if self.read else {}
        return {self.field: record[self.field], **text, "meaning": np.int32(record["meaning"])}


def train_data(
    data: ConfigDict,
    path: str,
    captioned: bool = True,
    kind: type[Made] = Codes,
    read: Any = None,
) -> tuple[MadeRecords, Callable[[Any], Any]]:
    """(records, transform) for `jaxgen.task.Task.train_data`, of a file of a kind.

    Args:
      captioned: whether the captions are read.
      read: what reads them; None: as `data` says.

    Raises:
      UserError: a file of other pictures, or data that are not there.
    """
    from jaxgen.data.captioned.examples import training_reader
    from jaxgen.data.captioned.records import open_records

    made = kind(path)
    records = open_records(data, "train")
    captions = list(records.captions())
    made.check_data(about_data(data, records, captions))
    make = MakeExample(kind.FIELD, (read or training_reader(data)) if captioned else None)
    return MadeRecords(made, captions), lambda dataset: dataset.random_map(make)
