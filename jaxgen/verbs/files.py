"""What the verbs' commands share: file formats, writable folders, errors that end everything."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from jaxgen.errors import UserError

# Written by file name ending; and the largest side that the format can hold.
FORMATS = {".png": 2**31 - 1, ".jpg": 65535, ".jpeg": 65535, ".webp": 16383}
# After these every further picture would fail as well.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def check_writable(folder: Path) -> None:
    """Before minutes of work: makes the folder, and a file in it for a moment.

    Raises:
      UserError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # By a random name: containers that share a folder have the same process numbers.
        tempfile.NamedTemporaryFile(dir=folder, prefix=".jaxgen.").close()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another folder"
        ) from None


def fatal(error: BaseException) -> bool:
    """True for a full or read-only disk, at which the pictures that follow would fail too."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FATAL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def naming(source: Path, error: Exception) -> str:
    """The error's text, with the picture's path in it."""
    return str(error) if str(source) in str(error) else f"{source}: {error}"
