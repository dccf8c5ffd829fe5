"""What people look at: pages, plots, tables for the console."""
