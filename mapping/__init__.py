"""Everything that decides where a layer runs and what it costs: compiler and command line."""
