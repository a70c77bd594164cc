"""``python -m ndrnn``: the command line, see :mod:`ndrnn.app.cli`."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    # Python looks here first, and a folder with data may hold a module that goes by the name of a library
    del sys.path[0]

from .app.cli import main

if __name__ == "__main__":
    sys.exit(main())
