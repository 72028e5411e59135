"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from jaxgen.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, which takes its place at the end.

    Until then, and if anything is raised (Ctrl-C too), an older file stays as it is. Another
    process that writes the same has a name of its own.

    Raises:
      UserError: it can't be written; of any OSError within.
    """
    # Not longer than the target's name may be: that one may fill what the file system allows.
    mark = zlib.crc32(path.name.encode(errors="surrogatepass"))
    part = path.with_name(f".{mark:08x}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
