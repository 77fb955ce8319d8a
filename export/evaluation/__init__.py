"""What a bundle is worth: on queries, on pairs, and in its false-alarm rates."""
