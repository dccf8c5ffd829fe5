# SPDX-License-Identifier: Apache-2.0
"""The float graph of a recorded module under construction: where each value is, and what can be fused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from common.errors import UnsupportedError
from golden.layer import WEIGHTED_OPS
from golden.quantize.float_graph import FloatNode, Pair
from golden.quantize.recorder import Call, Recording, Value

FUSING_OPS = (*WEIGHTED_OPS, "add", "average_pool", "max_pool")
"""The operators that end with a clamp."""

NO_PADS = (0, 0, 0, 0)
Pads = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Placed:
    """Where a value is in the network.

    Attributes:
        name: the tensor that holds it.
        positions: int64, the value's shape without the batch axis: where each element is in the tensor,
            channels last and flat; None where it is a whole image (C, H, W), sequence (C, L) or vector (C,).
        pads: zeros, (top, bottom, left, right), that the value has around it and the tensor has not.
    """

    name: str
    positions: Tensor | None = None
    pads: Pads = NO_PADS


def pair(value: Any) -> Pair:
    """Return (vertical, horizontal) from one number for both, or from one or two numbers."""
    if isinstance(value, int):
        return value, value
    items = tuple(int(item) for item in value)
    return (items[0], items[0]) if len(items) == 1 else (items[0], items[1])


def channels_last(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the tensor's shape for a shape without its batch axis; a sequence is an image of height 1."""
    if len(shape) == 2:
        return (1, shape[1], shape[0])
    return (*shape[1:], shape[0])


def whole(shape: Sequence[int]) -> Tensor:
    """Return the positions of a whole image (C, H, W), sequence (C, L) or vector (C,)."""
    positions = torch.arange(math.prod(shape)).reshape(*shape[1:], shape[0])
    return positions.movedim(-1, 0)


def spatial(value: Any, vertical: int, one: bool) -> tuple[int, int]:
    """Return (vertical, horizontal); of one dimension the vertical is given."""
    return (vertical, pair(value)[0]) if one else pair(value)


class GraphBuilder:
    """A float graph under construction, from the calls of a recording, one after the other.

    Attributes:
        recording: the calls.
        nodes: those made so far, by name.
        places: where each value is.
        input_shape: (H, W, C) or (C,).
        absorbed: values that no tensor holds any more, because a clamp behind a reshape went before them.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.nodes: dict[str, FloatNode] = {}
        self.input_shape = channels_last(recording.source.shape[1:])
        self.absorbed: set[Value] = set()
        self.places: dict[Value, Placed] = {recording.source: Placed(recording.input_name)}

    # ---------------------------------------------------------------------------------------------- messages
    def refuse(self, call: Call, why: str) -> UnsupportedError:
        """Return the error of a call that is supported, but not so."""
        return UnsupportedError(f"{call.where}: {why}{call.at}")

    def no_pads(self, call: Call, value: Value) -> None:
        """Check that a value is read without padding.

        Raises:
            UnsupportedError: a padding comes before the call.
        """
        if self.places[value].pads != NO_PADS:
            raise UnsupportedError(f"{call.where} reads padded data; only a convolution can{call.at}")

    def data(self, call: Call, index: int = 0) -> Value:
        """Return the value that is the call's argument `index`.

        Raises:
            UnsupportedError: the argument is no value.
        """
        value = call.args[index] if index < len(call.args) else call.kwargs.get("input")
        if not isinstance(value, Value):
            raise self.refuse(call, "it reads something else than a tensor that the network computed")
        return value

    def arguments(self, call: Call, **defaults: Any) -> dict[str, Any]:
        """Return the arguments after the first, by name, with `defaults` where they are not given.

        Raises:
            UnsupportedError: there is another argument.
        """
        given = dict(zip(defaults, call.args[1:], strict=False)) | call.kwargs
        for ignored in ("input", "inplace", "out"):
            given.pop(ignored, None)
        unknown = set(given) - set(defaults)
        if unknown or len(call.args) > len(defaults) + 1 + ("inplace" not in defaults):
            raise self.refuse(call, f"its arguments {sorted(unknown)} are not understood")
        return defaults | given

    def constant(self, call: Call, item: Any, what: str) -> Tensor:
        """Return an argument that must be a constant, float32.

        Raises:
            UnsupportedError: it depends on the input; `what` says what it is.
        """
        if not isinstance(item, Tensor):
            raise self.refuse(call, f"its {what} depend on the input; supported are constants")
        return item.detach().float().clone()

    # -------------------------------------------------------------------------------------------------- names
    def name_of(self, call: Call) -> str:
        """Return a name that no operator has: the module's path, or the function's name."""
        return self.unique(call.path if call.module is not None else call.name)

    def unique(self, preferred: str) -> str:
        """Return a name as wanted, with a number behind it where it is taken."""
        names = (preferred, *(f"{preferred}_{i}" for i in range(1, len(self.nodes) + 3)))
        return next(n for n in names if n not in self.nodes and n != self.recording.input_name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the network."""
        return self.input_shape if name == self.recording.input_name else self.nodes[name].shape

    # --------------------------------------------------------------------------------------------- operators
    def append(self, node: FloatNode) -> str:
        """Append an operator; return its name."""
        self.nodes[node.name] = node
        return node.name

    def put(self, call: Call, name: str, positions: Tensor | None = None, pads: Pads = NO_PADS) -> None:
        """Say where the call's result is."""
        assert call.result is not None
        self.places[call.result] = Placed(name, positions, pads)

    def reshaped(self, name: str, shape: tuple[int, ...], preferred: str) -> str:
        """Return the tensor in another shape of the same order, made where it is not yet there."""
        if self.shape(name) == shape:
            return name
        return self.append(FloatNode(name=self.unique(preferred), op="reshape", inputs=(name,), shape=shape))

    def image(self, call: Call, value: Value, *, padded: bool = False) -> str:
        """Return the tensor (H, W, C) of an image (N, C, H, W) or a sequence (N, C, L), of height 1.

        Raises:
            UnsupportedError: the value is neither, its axes are in another order, or it has padding that the
                reader does not take in.
        """
        if len(value.shape) not in (3, 4):
            raise self.refuse(
                call, f"it reads {value.shape[1:]}, not an image (C, H, W) or a sequence (C, L)"
            )
        if not padded:
            self.no_pads(call, value)
        place = self.places[value]
        self._in_order(call, place)
        return self.reshaped(place.name, channels_last(self.unpadded(value)), f"{self._base(call)}_image")

    def vector(self, call: Call, value: Value) -> str:
        """Return the tensor (C,) of a vector (N, C), whatever the order of its elements.

        Raises:
            UnsupportedError: the value is no vector.
        """
        if len(value.shape) != 2:
            raise self.refuse(call, f"it reads {value.shape[1:]}; flatten the image before it")
        self.no_pads(call, value)
        return self.reshaped(self.places[value].name, value.shape[1:], f"{self._base(call)}_vector")

    def unpadded(self, value: Value) -> tuple[int, ...]:
        """Return the value's shape without batch axis and without its padding."""
        top, bottom, left, right = self.places[value].pads
        shape = list(value.shape[1:])
        shape[-1] -= left + right
        if len(shape) == 3:
            shape[1] -= top + bottom
        return tuple(shape)

    def _base(self, call: Call) -> str:
        return call.path if call.module is not None else call.name

    def _in_order(self, call: Call, place: Placed) -> None:
        if place.positions is not None:
            raise self.refuse(
                call,
                f"it reads values of {place.name!r} in another order of axes; supported are (N, C, H, W), "
                "(N, C, L) and (N, C)",
            )

    # ------------------------------------------------------------------------------------------------ fusing
    def readers(self, name: str) -> set[Call | None]:
        """Return what reads a tensor of the network and makes another; None is the module's output."""
        holders = [value for value, place in self.places.items() if place.name == name]
        readers: set[Call | None] = {
            reader
            for value in holders
            for reader in value.readers
            if reader.result not in self.places or self.places[reader.result].name != name
        }
        return readers | {None for value in holders if value is self.recording.result}

    def fusable(self, call: Call, name: str, ops: Sequence[str]) -> FloatNode | None:
        """Return the operator, one of `ops`, that makes a tensor which `call` alone reads; else None."""
        producer = self.nodes.get(name)
        if producer is None or producer.op not in ops or self.readers(name) - {call}:
            return None
        if any(name in node.inputs for node in self.nodes.values()):
            return None
        return producer

    def clamp(self, call: Call, value: Value, low: float, high: float) -> None:
        """Clamp a value: in the operator that makes it, or in a pool of one pixel where others read that."""
        place = self.places[value]
        if place.pads != NO_PADS and not low <= 0 <= high:
            self.no_pads(call, value)
        name = place.name
        chain = [name]  # reshapes, which a clamp may pass, and what is before them
        while chain[-1] in self.nodes and self.nodes[chain[-1]].op == "reshape":
            chain.append(self.nodes[chain[-1]].inputs[0])
        producer = self.fusable(call, chain[0], FUSING_OPS)
        if len(chain) > 1 and self.fusable(call, name, ("reshape",)):
            producer = self._through(chain)
            if producer is not None:
                self.absorbed |= {value for value, held in self.places.items() if held.name in chain}
        if producer is not None:
            limits = (min(max(limit, low), high) for limit in (producer.low, producer.high))
            self.nodes[producer.name] = replace(producer, low=next(limits), high=next(limits))
            self.put(call, name, place.positions, place.pads)
            return
        source = self._pixels(call, name)
        pool = FloatNode(
            name=self.name_of(call),
            op="max_pool",
            inputs=(source,),
            shape=self.shape(source),
            low=low,
            high=high,
        )
        self.append(pool)
        name = self.reshaped(pool.name, self.shape(name), f"{pool.name}_vector")
        self.put(call, name, place.positions, place.pads)

    def flattened(self, name: str) -> str | None:
        """Return the image that a tensor is a flattening of; else None."""
        node = self.nodes.get(name)
        if node is None or node.op != "reshape" or len(node.shape) != 1:
            return None
        (image,) = node.inputs
        return image if len(self.shape(image)) == 3 else None

    def _pixels(self, call: Call, name: str) -> str:
        """Return an image of a tensor's values: itself, what it is a flattening of, or one pixel."""
        shape = self.shape(name)
        if len(shape) == 3:
            return name
        return self.flattened(name) or self.reshaped(name, (1, 1, *shape), f"{self._base(call)}_image")

    def _through(self, chain: list[str]) -> FloatNode | None:
        """Return the operator before a chain of reshapes that nothing else reads."""
        for reshape, source in pairwise(chain):
            others = [node.name for node in self.nodes.values() if source in node.inputs]
            if others != [reshape] or {
                r for r in self.readers(source) if r is None or r.result not in self.places
            }:
                return None
        producer = self.nodes.get(chain[-1])
        return producer if producer is not None and producer.op in FUSING_OPS else None

    def affine(self, call: Call, value: Value, scale: Tensor, shift: Tensor) -> None:
        """Multiply a value by `scale` and add `shift`, float64, scalars or of its shape without batch axis.

        They may have one element for each channel, (C, 1, 1).

        Both go into the layer that makes it, where nothing else reads that; else into a depthwise convolution
        of one pixel.

        Raises:
            UnsupportedError: they differ within a channel, or the value has padding that they would change.
        """
        place = self.places[value]
        if place.pads != NO_PADS and bool(shift.any()):
            self.no_pads(call, value)
        name = place.name
        if bool((scale == 1).all()) and not bool(shift.any()):
            self.put(call, name, place.positions, place.pads)
            return
        producer = self.fusable(call, name, WEIGHTED_OPS)
        if producer is not None and (producer.low, producer.high) == (-math.inf, math.inf):
            assert producer.weight is not None
            assert producer.bias is not None
            scales, shifts = (self._per_channel(call, value, item, name) for item in (scale, shift))
            weight = producer.weight.double() * scales.reshape(-1, *[1] * (producer.weight.ndim - 1))
            bias = producer.bias.double() * scales + shifts
            self.nodes[name] = replace(producer, weight=weight.float(), bias=bias.float())
            self.put(call, name, place.positions, place.pads)
            return
        source = self._pixels(call, name)
        scales, shifts = (self._per_channel(call, value, item, source) for item in (scale, shift))
        layer = FloatNode(
            name=self.name_of(call),
            op="depthwise_conv2d",
            inputs=(source,),
            shape=self.shape(source),
            weight=scales.float().reshape(-1, 1, 1, 1),
            bias=shifts.float(),
        )
        self.append(layer)
        name = self.reshaped(layer.name, self.shape(name), f"{layer.name}_vector")
        self.put(call, name, place.positions, place.pads)

    def _per_channel(self, call: Call, value: Value, constant: Tensor, name: str) -> Tensor:
        """Return a constant of a value's shape as one number for each channel of a tensor, float64 (C,)."""
        place = self.places[value]
        channels = self.shape(name)[-1]
        if constant.numel() == 1:
            return constant.reshape(1).expand(channels)
        if place.positions is None and constant.numel() == channels == value.shape[1]:
            return constant.flatten()
        constant = constant.expand(value.shape[1:])
        shape = self.unpadded(value)
        if place.pads != NO_PADS:
            top, _, left, _ = place.pads
            constant = constant[..., left : left + shape[-1]]
            constant = constant if len(shape) < 3 else constant[:, top : top + shape[1]]
        positions = whole(shape) if place.positions is None else place.positions
        held = torch.empty(positions.numel(), dtype=torch.float64)
        held[positions.flatten()] = constant.flatten()
        held = held.reshape(-1, channels)
        if not bool((held == held[:1]).all()):
            raise self.refuse(call, "its constant differs within a channel; supported is one number for each")
        return held[0]
