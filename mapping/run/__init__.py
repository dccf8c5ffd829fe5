"""Layers and networks run in RTL, every value compared with the golden model."""
