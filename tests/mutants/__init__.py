"""Faults put into the queue on purpose, one at a time: what exploration must find to be worth its name."""
