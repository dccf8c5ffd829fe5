"""A network and an assignment of its channels become command lists and a memory image."""
