"""``python -m ndrnn``: the command line, see :mod:`ndrnn.app.cli`."""

import sys

from .app.cli import main

if __name__ == "__main__":
    sys.exit(main())
