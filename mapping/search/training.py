# SPDX-License-Identifier: Apache-2.0
"""The phases of a mapping search: warm-up in floating point, search, fine-tuning, integer training.

Every phase is a sequence of epochs with a checkpoint after each. Random numbers come from the seed, the phase
and the epoch alone, so that a run that was killed and resumed ends as one that was not, to the last bit.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.arrays import Int8
from common.files import write_atomically
from golden.network import Network
from golden.quantize.qat import QatNetwork, convert, prepare_qat
from mapping.search.costs import NetworkCosts
from mapping.search.data import DataSet
from mapping.search.mixing import Mixture, bake, fixed_weights

Row = dict[str, float]
"""An epoch: its number, loss, training accuracy in percent; in a search cost, strength, temperature."""
CALIBRATION_IMAGES = 512
LOGIT_BETAS = (0.9, 0.95)
"""Of Adam. The cost's slopes change sign where a layer has its best split: a long memory overshoots."""
STRENGTHS = (1e-4, 1e4)
"""Limits of a strength that follows a target."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        warmup_epochs: in floating point; once per seed, shared by all mappings.
        search_epochs: with mixed weights; none for mappings that are given.
        finetune_epochs: from the warm-up's weights, each channel as its unit has it.
        integer_epochs: afterwards, exact integers in the forward pass (`golden.quantize.qat`).
        batch: images of a step.
        warmup_rate, rate: step sizes of Adam, in floating point and of quantised weights.
        logit_travel: how far a logit can go in a search that always pulls one way.
        weight_decay: of the module's own parameters.
        temperature: of the softmax at the first and at the last step of the search; it falls exponentially.
        cost_evaluations: how often a search prices mappings near the expected channels, for its gradient.
    """

    warmup_epochs: int = 20
    search_epochs: int = 8
    finetune_epochs: int = 8
    integer_epochs: int = 0
    batch: int = 64
    warmup_rate: float = 4e-3
    rate: float = 2e-3
    logit_travel: float = 6.0
    weight_decay: float = 1e-4
    temperature: tuple[float, float] = (1.0, 0.3)
    cost_evaluations: int = 48


@dataclass
class TrainingRun:
    """A phase of training under way.

    Attributes:
        name: of the phase, for its random numbers.
        seed: of the run.
        file: where its checkpoint is; None for none.
        rows: its epochs so far.
        report: called after every epoch with the row.
    """

    name: str
    seed: int
    file: Path | None = None
    rows: list[Row] = field(default_factory=list)
    report: Callable[[Row], None] | None = None

    def generator(self, epoch: int) -> torch.Generator:
        """Return the random numbers of an epoch."""
        return torch.Generator().manual_seed(self.number(epoch))

    def number(self, epoch: int) -> int:
        """Return a seed for an epoch."""
        return zlib.crc32(f"{self.seed} {self.name} {epoch}".encode())

    def resume(self, parts: Mapping[str, Any]) -> int:
        """Load the checkpoint, if there is one, into parts with `load_state_dict`; return the epochs done."""
        if self.file is None or not self.file.exists():
            return 0
        state = torch.load(self.file, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.rows = state["rows"]
        return len(self.rows)

    def save(self, parts: Mapping[str, Any], row: Row) -> None:
        """End an epoch: write the checkpoint, whole or not at all."""
        self.rows.append(row)
        if self.file is not None:
            state = {name: part.state_dict() for name, part in parts.items()} | {"rows": self.rows}
            write_atomically(self.file, functools.partial(torch.save, state))
        if self.report:
            self.report(row)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread and with deterministic algorithms: the result depends on nothing else then."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # nothing reads it, and it takes time
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        memory.fill_uninitialized_memory = filled


def batches(data: DataSet, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shuffled, augmented batches (images, labels); what is left over is left out.

    A data set smaller than a batch makes one batch.
    """
    order = torch.randperm(len(data.train_labels), generator=generator)
    size = min(size, len(order))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        images = data.train_images[chosen]
        if data.augment:
            images = data.augment(images, generator)
        yield channels_last(images), data.train_labels[chosen]


def channels_last(images: Tensor) -> Tensor:
    """Return the images in the memory format in which convolutions are fast here."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def accuracy(model: nn.Module, data: DataSet) -> float:
    """Return the accuracy of a float module on the test images, in percent."""
    model.eval()
    with torch.no_grad():
        guesses = [
            model(channels_last(images)).argmax(dim=1) for images in torch.split(data.test_images, 256)
        ]
        right = int((torch.cat(guesses) == data.test_labels).sum())
    return 100.0 * right / len(data.test_labels)


class _Trainer:
    """Trains a module for some epochs, with a cosine schedule for all step sizes but those of logits."""

    def __init__(
        self,
        run: TrainingRun,
        model: nn.Module,
        groups: Sequence[dict[str, Any]],
        data: DataSet,
        batch: int,
        epochs: int,
    ) -> None:
        self.run, self.model, self.data, self.batch, self.epochs = run, model, data, batch, epochs
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.rates = [group["lr"] for group in groups]
        self.constant = [group.get("constant", False) for group in groups]
        self.steps = len(data.train_labels) // min(batch, len(data.train_labels))

    def epoch(self, number: int, extra: Callable[[int], Tensor | None] = lambda _step: None) -> Row:
        """Train one epoch.

        Args:
            number: of the epoch, from 0.
            extra: prepares each step, counted over all epochs, and gives it a term of the loss.
        """
        self.model.train()
        total, right, seen = 0.0, 0, 0
        each = batches(self.data, self.batch, self.run.generator(number))
        for step, (images, labels) in enumerate(each, start=number * self.steps):
            done = step / (self.steps * self.epochs)
            for group, rate, constant in zip(
                self.optimizer.param_groups, self.rates, self.constant, strict=True
            ):
                group["lr"] = rate if constant else rate * 0.5 * (1 + math.cos(math.pi * done))
            self.optimizer.zero_grad(set_to_none=True)
            added = extra(step)
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels)
            total += float(loss.detach()) * len(labels)
            right += int((logits.detach().argmax(dim=1) == labels).sum())
            seen += len(labels)
            loss = loss if added is None else loss + added
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return {"epoch": number + 1, "loss": total / seen, "accuracy_percent": 100.0 * right / seen}

    def train(self, modules: Mapping[str, Any]) -> None:
        """Train all epochs that the checkpoint does not have."""
        parts = {**modules, "optimizer": self.optimizer}
        with torch.backends.mkldnn.flags(enabled=not strided_pointwise(self.model)):
            for number in range(self.run.resume(parts), self.epochs):
                self.run.save(parts, self.epoch(number))


def strided_pointwise(model: nn.Module) -> bool:
    """Return whether a module has strided 1x1 convolutions whose channels are no multiple of 8.

    The kernel that oneDNN takes for the gradient of their weights on processors without AVX-512
    (jit_1x1:avx2) writes beyond its buffers where channels lie last.
    """
    return any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels % 8 > 0
        for layer in model.modules()
    )


# ---------------------------------------------------------------------------------------------------- phases
def warm_up(model: nn.Module, data: DataSet, recipe: Recipe, run: TrainingRun) -> None:
    """Train a module in floating point; it is changed in place."""
    group = {
        "params": list(model.parameters()),
        "lr": recipe.warmup_rate,
        "weight_decay": recipe.weight_decay,
    }
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _Trainer(run, model, [group], data, recipe.batch, recipe.warmup_epochs).train({"model": model})


@dataclass
class CostWeight:
    """The weight of the cost in the loss, and what the cost was when it was last evaluated.

    Attributes:
        strength: what the cost of the reference counts in the loss, in nats.
        target: cost that the strength is to be made for, if there is one.
        reference: cost in whose units costs are counted.
        whole: layers are not split.
        slopes: (L, U) cost of one more channel, at the last evaluation.
        cost: at the last evaluation.
    """

    strength: float
    reference: float
    target: float | None = None
    whole: bool = False
    slopes: Tensor | None = None
    cost: float = math.nan

    def evaluate(self, costs: NetworkCosts, expected: Tensor, rng: np.random.Generator) -> None:
        """Price mappings near the expected channels, (L, U); let the strength follow the target."""
        sample = costs.sample(expected.detach().double().numpy(), rng, self.whole)
        self.slopes = torch.from_numpy(sample.slopes).float()
        self.cost = sample.cost
        if self.target is not None:
            low, high = STRENGTHS
            gap = max(-1.0, min(1.0, 4.0 * (self.cost / self.target - 1.0)))
            self.strength = min(max(self.strength * math.exp(gap), low), high)

    def __call__(self, expected: Tensor) -> Tensor:
        """Return the term of the loss: its gradient is that of strength * cost / reference."""
        assert self.slopes is not None
        return self.strength / self.reference * (self.slopes * expected).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"strength": self.strength, "slopes": self.slopes, "cost": self.cost}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.strength, self.slopes, self.cost = state["strength"], state["slopes"], state["cost"]


def search(
    mixture: Mixture,
    costs: NetworkCosts,
    cost_weight: CostWeight,
    data: DataSet,
    recipe: Recipe,
    run: TrainingRun,
) -> None:
    """Search for the units of a mixture's channels: its logits are the result.

    Args:
        mixture: of the module; weights and logits are trained.
        costs: of the network that the module is.
        cost_weight: the cost's part of the loss.
    """
    parameters = mixture.parameters()
    decay = recipe.weight_decay
    groups = [
        {"params": parameters["own"], "lr": recipe.rate, "weight_decay": decay},
        {"params": parameters["scales"], "lr": recipe.rate, "weight_decay": 0.0},
        {
            "params": parameters["logits"],
            "lr": 0.0,
            "weight_decay": 0.0,
            "betas": LOGIT_BETAS,
            "constant": True,
        },
    ]
    trainer = _Trainer(run, mixture.module, groups, data, recipe.batch, recipe.search_epochs)
    first, last = recipe.temperature
    steps = trainer.steps * recipe.search_epochs
    trainer.rates[-1] = recipe.logit_travel / max(1, steps)
    interval = max(1, steps // recipe.cost_evaluations)

    def term(step: int) -> Tensor:
        mixture.set_temperature(first * (last / first) ** (step / max(1, steps - 1)))
        expected = mixture.expected()
        if step % interval == 0:
            cost_weight.evaluate(costs, expected, np.random.default_rng([run.number(0), step]))
        return cost_weight(expected)

    # "pull" is what checkpoints have always called it
    parts = {"model": mixture.module, "pull": cost_weight, "optimizer": trainer.optimizer}
    for number in range(run.resume(parts), recipe.search_epochs):
        row = trainer.epoch(number, term)
        temperature = next(iter(mixture.layers.values())).temperature
        run.save(
            parts,
            row | {"cost": cost_weight.cost, "strength": cost_weight.strength, "temperature": temperature},
        )
    mixture.set_temperature(last)


def fine_tune(
    model: nn.Module, bits: Mapping[str, Int8], data: DataSet, recipe: Recipe, run: TrainingRun
) -> None:
    """Train a module with weights of given widths; afterwards its weights are such, exactly.

    Args:
        model: changed in place.
        bits: (K,) width of each output channel of each layer, by the submodule's path.
    """
    fixed = fixed_weights(model, bits)
    scales = [layer.log_scales for layer in fixed.values()]
    special = {id(item) for item in scales}
    own = [item for item in model.parameters() if id(item) not in special]
    groups = [
        {"params": own, "lr": recipe.rate, "weight_decay": recipe.weight_decay},
        {"params": scales, "lr": recipe.rate, "weight_decay": 0.0},
    ]
    _Trainer(run, model, groups, data, recipe.batch, recipe.finetune_epochs).train({"model": model})
    bake(model, bits)


def integer_network(
    model: nn.Module,
    bits: Mapping[str, Int8],
    a_bits: Mapping[str, Int8],
    data: DataSet,
    recipe: Recipe,
    run: TrainingRun,
    name: str,
) -> tuple[QatNetwork, Network]:
    """Return the integer network of a fine-tuned module, trained on with exact integers.

    Args:
        model: with weights of the given widths.
        bits, a_bits: (K,) widths of each output channel's weights and of the activations that it multiplies.
        name: of the network.

    Returns:
        The network in training, whose forward pass computes the integers of the network; and that.
    """
    images = data.train_images[:CALIBRATION_IMAGES]
    qat = prepare_qat(
        model.eval(), images, weight_bits=dict(bits), name=name,
        input_scale=data.input_scale, input_zero_point=data.input_zero_point,
    )  # fmt: skip
    for layer, widths in a_bits.items():
        qat.weighted(layer).set_a_bits(widths)
    if recipe.integer_epochs:
        qat.freeze_ranges()
        group = {"params": list(qat.parameters()), "lr": 0.25 * recipe.rate, "weight_decay": 0.0}
        _Trainer(run, qat, [group], data, recipe.batch, recipe.integer_epochs).train({"model": qat})
    qat.eval()
    return qat, convert(qat)
