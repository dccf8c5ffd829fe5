"""Our own characterisation of sky130 standard cells: from layout and transistor models to a Liberty file."""
