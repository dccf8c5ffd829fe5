# SPDX-License-Identifier: Apache-2.0
"""The user's own Python: functions named package.module:function, whatever they raise."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from common.errors import NpuloopError


def is_function(spec: str) -> bool:
    """Return whether a specification has the form package.module:function."""
    module, colon, function = spec.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def user_function(spec: str, kind: type[NpuloopError]) -> Callable[..., Any]:
    """Return the function that package.module:function names; the current directory is importable.

    Args:
        spec: package.module:function.
        kind: the error that is raised.

    Raises:
        kind: here where there is no such function, and by the function that is returned where the user's
            fails; naming it.
    """
    module, _, name = spec.partition(":")
    try:
        with _current_directory_importable():
            function = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's own code may raise anything
        raise kind(f"{spec}: {first_line(error)}; give package.module:function") from error
    return guarded(spec, function, kind)


def registered(
    name: str, group: str, what: str, remedy: Callable[[list[str]], str], kind: type[NpuloopError]
) -> Callable[..., Any]:
    """Return the function that an installed package registers under a name.

    Args:
        name: the name.
        group: the entry-point group.
        what: what the function is or gives: "policy".
        remedy: from the names that are registered in the group, what to give instead.
        kind: the error that is raised.

    Raises:
        kind: as by `user_function`, and where no package or several register the name.
    """
    points = list(entry_points(group=group, name=name))
    if len(points) != 1:
        found = f"{len(points)} packages register a {what}" if points else f"there is no {what}"
        names = [point.name for point in entry_points(group=group)]
        raise kind(f"{found} {name!r}; give {remedy(names)}")
    (point,) = points
    try:
        return guarded(name, point.load(), kind)
    except Exception as error:  # the user's own code may raise anything
        raise kind(f"{name} ({point.value}): {first_line(error)}; correct the package") from error


def guarded(spec: str, function: Any, kind: type[NpuloopError]) -> Callable[..., Any]:
    """Return the function, so that whatever it raises becomes one clear error."""

    def call(*arguments: Any) -> Any:
        try:
            with _current_directory_importable():
                return function(*arguments)
        except Exception as error:  # as above
            raise kind(f"{spec} fails: {first_line(error)}; correct the function") from error

    return call


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:  # the user's code may have changed it too
            sys.path.remove(here)


def first_line(error: BaseException) -> str:
    """Return an error's first line, with its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
