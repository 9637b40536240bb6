"""A battery of faults on real processes and a real server: `make chaos`. See docs/reliability.md."""
