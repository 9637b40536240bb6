"""An application of SAQ's, unmodified, and what exploration finds in it; see docs/foreign-queues.md."""
