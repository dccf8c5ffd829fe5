"""Tests of cells, netlists and gate-level simulation."""
