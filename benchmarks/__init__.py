"""Measurements that anyone can repeat: `make bench`, or one file at a time. See README.md."""
