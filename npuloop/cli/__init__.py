"""The command `npuloop`, one file for each group of sub-commands."""
