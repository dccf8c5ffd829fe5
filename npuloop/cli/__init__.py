# SPDX-License-Identifier: Apache-2.0
"""The command `npuloop`, one file for each group of sub-commands.

`--help` answers at once because these files import at their top only what is light: typer, rich, `common`,
`hw` and each other. What is slow (`golden`, `mapping`, `gates`, `tb`, NumPy, PyTorch) is imported inside the
commands.
"""
