"""`python -m queuekit`: see `queuekit.cli`."""

import sys

from queuekit.cli import main

sys.exit(main())
