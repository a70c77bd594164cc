"""``python -m ndrnn``: the command line, see :mod:`ndrnn.cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
