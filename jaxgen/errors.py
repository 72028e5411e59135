"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """A problem with the input, not with the program.

    The message is one line and says what to do. `jaxgen.main` and the `jaxgen` command print it
    as `error: ...` and exit with status 2, without a traceback; library callers catch it.
    """
