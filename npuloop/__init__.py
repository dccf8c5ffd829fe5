"""The door: the public API, and the command line in `npuloop.cli`."""
