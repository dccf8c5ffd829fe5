"""Benchmarks of speed and utilisation."""
