"""Floor 2: the only place that knows Redis. One script a move; see `keys.py` for what lies where."""
