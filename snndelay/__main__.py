"""`python -m snndelay` is `snndelay`."""

import sys

from .cli import main

sys.exit(main())
