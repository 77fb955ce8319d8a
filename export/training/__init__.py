"""Training of our own model: a small image tower, MiniLM frozen, and a learned map."""
