"""``python -m ndrnn.app.demo``."""

import sys

from .tour import main

sys.exit(main())
