"""Area and energy of cores from their gates."""
