"""Floor 5: looking for what breaks, and checking what was promised after each run."""
