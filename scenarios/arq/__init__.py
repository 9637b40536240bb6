"""An application of arq's, unmodified, and what exploration finds in it; see docs/foreign-queues.md."""
