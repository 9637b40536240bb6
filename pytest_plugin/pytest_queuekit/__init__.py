"""queuekit's pytest plugin: the fixture `simulation` and what belongs to it."""
