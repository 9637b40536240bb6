"""`make bench`: all of them."""

from __future__ import annotations

import sys

from benchmarks import compare, plugin_cost, virtual_time

if __name__ == "__main__":
    sys.exit(compare.main() or virtual_time.main() or plugin_cost.main())
