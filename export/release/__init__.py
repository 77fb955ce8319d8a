"""What leaves: the bundle with its card, its upload, and the sample archive."""
