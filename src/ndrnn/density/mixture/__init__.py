"""Mixtures of conditional Gaussian scale mixtures."""
