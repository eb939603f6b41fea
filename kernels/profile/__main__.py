"""`python -m snndelay.kernels.profile` is `snndelay profile`, without plots."""

import sys

from .command import main

sys.exit(main())
