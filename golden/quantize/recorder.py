# SPDX-License-Identifier: Apache-2.0
"""Records what a PyTorch module computes, call by call, while it runs.

The module runs once on a real batch, and every call of PyTorch that reads what the input has become is
recorded. So Python decides as it does in use: default arguments, loops, checks of a shape, wrappers and
subclasses need no support. What does not depend on the input is a constant, however it was computed.

Calls that write in place make new values. A tensor is known by its place in memory: its storage, offset,
shape and strides. All aliases of a tensor share the place, so every later reader sees what was written. A
tensor that shares memory with a written one at another place, such as a slice of it, is stale; reading it is
refused.
PyTorch's version counters say which tensors a call has written, whatever its name.
"""

import inspect
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from common.errors import NetworkError, UnsupportedError

_TORCH = str(Path(torch.__file__).parent)

_ASKS_ABOUT = frozenset(
    [
        "shape",
        "size",
        "dim",
        "ndim",
        "ndimension",
        "dtype",
        "device",
        "layout",
        "numel",
        "nelement",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "stride",
        "storage_offset",
        "element_size",
        "itemsize",
        "is_cuda",
        "is_cpu",
        "is_quantized",
        "is_sparse",
        "is_meta",
        "is_leaf",
        "is_inference",
        "requires_grad",
        "grad",
        "grad_fn",
        "names",
        "__len__",
        "__hash__",
        "__repr__",
        "__str__",
        "__format__",
        "get_device",
        "result_type",
        "can_cast",
        "has_names",
        "_version",
        "is_mkldnn",
        "is_signed",
        "is_nested",
        "nbytes",
    ]
)
"""What a module may ask of a tensor: the answer does not depend on the values."""

_MAKES_CONSTANT = frozenset(
    ["zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"]
)
"""What takes only shape and type from the tensor that it reads."""

Place: TypeAlias = tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype]


@dataclass(eq=False)
class Value:
    """A tensor at one moment, that depends on the input.

    Attributes:
        shape: with the batch axis.
        tensor: what it holds, unless something wrote over it later.
        call: what made it; None for the input.
        readers: the calls that read it.
        overwritten: whether something wrote over it, or over a part of it.
    """

    shape: tuple[int, ...]
    tensor: Tensor
    call: "Call | None" = None
    readers: "list[Call]" = field(default_factory=list)
    overwritten: bool = False


@dataclass(eq=False)
class Call:
    """One call of PyTorch that reads a value.

    Attributes:
        function: the function or method.
        name: its name, without underscores around it: `add` for torch.add, x + y, x.add(y) and x.add_(y).
        args, kwargs: what it was given, with values in the place of the tensors that depend on the input.
        path: of the innermost module around it; empty for the module itself.
        module: the innermost module, where it has no parts; else None.
        line: where the user's own code calls it; empty where that is not known.
        result: the value that it made; None where it made several, or none.
        fault: why a network cannot have it; empty where that is not known yet.
    """

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str
    module: nn.Module | None
    line: str
    result: Value | None = None
    fault: str = ""

    @property
    def values(self) -> list[Value]:
        """The values that it reads, in order."""
        return [item for item in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(item, Value)]

    @property
    def where(self) -> str:
        """What a message calls it: the module that does nothing else, or the function."""
        if self.module is not None:
            return f"module {self.path!r}"
        return f"function {self.name!r}"

    @property
    def at(self) -> str:
        """The end of a message: where the user's code calls it."""
        return f" [{self.line}]" if self.line else ""


@dataclass(frozen=True, eq=False)
class Recording:
    """What a module computed.

    Attributes:
        input_name: the name of the module's argument.
        source: the input.
        result: what the module returned.
        calls: those on which the result depends, in order.
    """

    input_name: str
    source: Value
    result: Value
    calls: tuple[Call, ...]


def record(model: nn.Module, batch: Tensor) -> Recording:
    """Run a module on a batch and return what it computed.

    Args:
        model: in evaluation mode, on the CPU; hooks are put on its parts.
        batch: of two inputs or more, so that shapes that depend on the batch's size show.

    Raises:
        NetworkError: the module cannot run on the batch.
        UnsupportedError: it takes or returns something else than one tensor, or what it computes depends on
            the values in a way that a network cannot follow.
    """
    input_name = _input_name(model)
    recorder = _Recorder()
    source = recorder.start(batch)
    try:
        with recorder.watching(model), torch.no_grad(), recorder:
            result = model(batch)
    except (UnsupportedError, NetworkError):
        raise
    except Exception as error:  # whatever the model's own code raises
        raise NetworkError(f"{type(model).__name__} cannot run on {tuple(batch.shape)}: {error}") from error
    return Recording(input_name, source, *recorder.finish(result))


def _input_name(model: nn.Module) -> str:
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise UnsupportedError(f"the module takes a second input {needed[1]!r}; one is supported")
    return positional[0].name if positional else "input"


class _Recorder(TorchFunctionMode):
    """The mode that records; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.values: dict[Place, Value] = {}
        self.written: dict[int, Call] = {}  # storages, by what wrote them last
        self.stack: list[tuple[str, nn.Module]] = []
        self.kept: list[Any] = []  # alive, so that no storage's address is given to another

    def start(self, batch: Tensor) -> Value:
        """Take the input in."""
        value = Value(tuple(batch.shape), batch)
        self.values[_place(batch)] = value
        self.kept.append(batch)
        return value

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Know which module is running."""
        hooks = []
        for path, module in model.named_modules():
            hooks += [
                module.register_forward_pre_hook(self._enter(path), prepend=True),
                module.register_forward_hook(lambda *_: self.stack.pop() and None, always_call=True),
            ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, _arguments: self.stack.append((path, module))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one call, and record it where it reads a value."""
        kwargs = kwargs or {}
        tensors = [item for item in pytree.tree_leaves((args, kwargs)) if isinstance(item, Tensor)]
        name = _name(func)
        if not any(self._depends(tensor) for tensor in tensors):
            return func(*args, **kwargs)
        if name in _ASKS_ABOUT:
            return func(*args, **kwargs)
        call = self._call(func, name, args, kwargs)
        versions = [_version(tensor) for tensor in tensors]
        result = func(*args, **kwargs)
        changed = [tensor for tensor, old in zip(tensors, versions, strict=True) if _version(tensor) != old]
        if any(tensor.is_inference() for tensor in tensors):  # these have no versions
            changed += _written_by_name(func, args, kwargs)
        self._take_in(call, result, changed)
        return result

    def _depends(self, tensor: Tensor) -> bool:
        """Return whether a tensor depends on the input."""
        place = _place(tensor)
        return place in self.values or place[0] in self.written

    def value_of(self, tensor: Tensor, reader: str) -> Value:
        """Return the value that a tensor which depends on the input now holds.

        Raises:
            UnsupportedError: a part of its memory was written since it was made.
        """
        place = _place(tensor)
        if place not in self.values:
            call = self.written[place[0]]
            raise UnsupportedError(
                f"{reader} reads a tensor into a part of which, or through a view of which, {call.where} "
                f"wrote in place{call.at}; make a new tensor instead"
            )
        return self.values[place]

    def _call(self, func: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Call:
        path, module = self.stack[-1] if self.stack else ("", None)
        plain = name.strip("_") or name
        leaf = module if path and module is not None and not any(True for _ in module.children()) else None
        call = Call(func, plain, (), {}, path, leaf, _user_line())

        def value(item: Any) -> Any:
            if isinstance(item, Tensor) and self._depends(item):
                return self.value_of(item, call.where + call.at)
            return item

        call.args, call.kwargs = pytree.tree_map(value, (tuple(args), dict(kwargs)))
        return call

    def _take_in(self, call: Call, result: Any, changed: list[Tensor]) -> None:
        """Note what a call made and wrote."""
        results = [item for item in pytree.tree_leaves(result) if isinstance(item, Tensor)]
        if call.name in _MAKES_CONSTANT:
            return
        if not results and not changed:
            raise UnsupportedError(
                f"{call.where} makes a Python value of the data; a network computes the same for every "
                f"input, so its operators must not depend on values{call.at}"
            )
        if not changed and all(_place(item) in self.values for item in results):
            return  # it passes on what it read
        self.calls.append(call)
        for value in call.values:
            value.readers.append(call)
        places = [_place(item) for item in results]
        for tensor in changed:
            storage = _place(tensor)[0]
            for place in [place for place in self.values if place[0] == storage]:
                self.values.pop(place).overwritten = True
            self.written[storage] = call
            self.kept.append(tensor)
        changed_places = {_place(tensor) for tensor in changed}
        if changed and not changed_places <= set(places):
            return  # it wrote into a part, or beside its result: whatever reads that is refused
        for item, place in zip(results, places, strict=True):
            if place in self.values:
                continue
            value = Value(tuple(item.shape), item, call)
            self.values[place] = value
            self.kept.append(item)
        made = {self.values[place] for place in places}
        if len(made) == 1:
            (call.result,) = made
        else:
            call.fault = f"it makes {len(made)} tensors; supported are functions that make one"

    def finish(self, result: Any) -> tuple[Value, tuple[Call, ...]]:
        """Return the value of the module's result, and the calls on which it depends."""
        leaves = pytree.tree_leaves(result)
        if len(leaves) != 1 or not isinstance(leaves[0], Tensor) or not self._depends(leaves[0]):
            raise UnsupportedError("the module returns something else than one tensor that it computed")
        value = self.value_of(leaves[0], "the module's output")
        needed: set[Call] = set()
        pending = [value]
        while pending:
            call = pending.pop().call
            if call is not None and call not in needed:
                needed.add(call)
                pending += call.values
        for each in self.calls:
            for read in each.values:
                read.readers = [reader for reader in read.readers if reader in needed]
        return value, tuple(call for call in self.calls if call in needed)


def _place(tensor: Tensor) -> Place:
    if tensor.layout != torch.strided:
        raise UnsupportedError(f"a tensor of layout {tensor.layout}; supported are dense ones")
    return (
        tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(),
        tensor.dtype,
    )  # fmt: skip


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _written_by_name(func: Callable[..., Any], args: Any, kwargs: Any) -> list[Tensor]:
    """Return what a call writes, from PyTorch's convention: a name that ends with _, inplace, out."""
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") or name == "__setitem__" or kwargs.get("inplace") is True
    written = [args[0]] if in_place and args else []
    return [item for item in (*written, kwargs.get("out")) if isinstance(item, Tensor)]


def _name(func: Callable[..., Any]) -> str:
    """Return the name of a function, or of the attribute that it gets."""
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__", "__delete__"):
        return str(getattr(getattr(func, "__self__", None), "__name__", name))
    return name


def _user_line() -> str:
    """Return where the innermost frame outside PyTorch and this file is: its file, line and text."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith((__file__, _TORCH, "<")):
        if frame.f_code is record.__code__:
            return ""
        frame = frame.f_back
    if frame is None:
        return ""
    file, number = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(file).name}, line {number}: {linecache.getline(file, number).strip()}"
