"""Measures of rankings, and tables of them. They know of no model and no image."""
