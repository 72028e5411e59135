"""`python -m jaxgen`: the same as the command `jaxgen`."""

from jaxgen.cli import main

if __name__ == "__main__":
    main()
