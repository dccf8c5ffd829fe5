# SPDX-License-Identifier: Apache-2.0
"""One core: the parameters that its hardware is built with."""

from __future__ import annotations

from dataclasses import dataclass, fields

from common.errors import ConfigError

TILE_BITS = 2560
"""Most bits of a weight tile of a default shape, which 5 bits on 16 x 32 fill; most others have 2,048."""
KEY_LETTERS = {
    "stripe_depth": "s", "lanes": "l", "dw_taps": "d", "act_kib": "act", "weight_kib": "weight",
    "param_kib": "param",
}  # fmt: skip
"""How a core's key says a parameter that is not the default."""


def default_cols(w_bits: int, rows: int = 16) -> int:
    """Return the columns of the array that fill a weight tile: 16, 32 or 64 at 16 rows; 0 where none fit."""
    sixteens = TILE_BITS // w_bits // rows // 16
    return 16 << sixteens.bit_length() - 1 if sixteens else 0


@dataclass(frozen=True)
class CoreConfig:
    """Parameters of one NPU core. `name` is the unit's name in jobs and results.

    `cols=None` takes :func:`default_cols`. Sizes: scratchpads in KiB, `stripe_depth` in output pixels.
    """

    name: str
    a_bits: int = 8
    w_bits: int = 8
    rows: int = 16
    cols: int | None = None
    stripe_depth: int = 64
    lanes: int = 16
    dw_taps: int = 5
    act_kib: int = 128
    weight_kib: int = 64
    param_kib: int = 16

    def __post_init__(self) -> None:
        """Check every parameter and fill in the columns."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "cols") and (not isinstance(value, int) or isinstance(value, bool)):
                raise ConfigError(f"core {self.name!r}: {field.name} = {value!r} must be an integer")
        self._check(bool(self.name) and self.name.isidentifier(), "name", "must be an identifier")
        self._check(4 <= self.a_bits <= 8, "a_bits", "must be 4 to 8")
        self._check(2 <= self.w_bits <= 8, "w_bits", "must be 2 to 8")
        self._check(
            self.rows >= 16 and self.rows & (self.rows - 1) == 0,
            "rows",
            "must be a multiple of 16 and a power of two",
        )
        if self.cols is None:
            object.__setattr__(self, "cols", default_cols(self.w_bits, self.rows))
        cols = self.columns
        self._check(
            cols >= self.rows and cols % self.rows == 0 and self.rows * cols * self.w_bits <= 255 * 256,
            "cols",
            f"must be a multiple of rows ({self.rows}), a tile of rows x cols weights at most 65280 bits",
        )
        self._check(1 <= self.stripe_depth <= 255, "stripe_depth", "must be 1 to 255")
        self._check(self.lanes in (1, 2, 4, 8, 16), "lanes", "must be 1, 2, 4, 8 or 16")
        self._check(1 <= self.dw_taps <= 16, "dw_taps", "must be 1 to 16")
        self._check(1 <= self.act_kib <= 4095, "act_kib", "must be 1 to 4095")
        self._check(1 <= self.weight_kib <= 4095, "weight_kib", "must be 1 to 4095")
        self._check(1 <= self.param_kib <= 255, "param_kib", "must be 1 to 255")

    @property
    def key(self) -> str:
        """What tables of cycles, energy and area call a core: its parameters, whatever its name.

        Widths and shape as in `w2a8_16x64`, then what is not the default as in `_l8_act64`. Equal keys mean
        equal parameters.
        """
        defaults = {field.name: field.default for field in fields(self)}
        changed = [
            f"_{letters}{getattr(self, name)}"
            for name, letters in KEY_LETTERS.items()
            if getattr(self, name) != defaults[name]
        ]
        return f"w{self.w_bits}a{self.a_bits}_{self.rows}x{self.columns}{''.join(changed)}"

    @property
    def columns(self) -> int:
        """Output channels of the array."""
        assert self.cols is not None  # set by __post_init__
        return self.cols

    def _check(self, holds: bool, field: str, rule: str) -> None:
        if not holds:
            raise ConfigError(f"core {self.name!r}: {field} = {getattr(self, field)!r} {rule}")

    def registers(self, axi_bits: int) -> dict[str, dict[str, int]]:
        """Return what the configuration registers of this core must hold: register, field, value."""
        return {
            "config_array": {
                "a_bits": self.a_bits,
                "w_bits": self.w_bits,
                "rows": self.rows,
                "cols": self.columns,
            },
            "config_memory": {
                "act_kib": self.act_kib,
                "weight_kib": self.weight_kib,
                "param_kib": self.param_kib,
            },
            "config_pipeline": {
                "stripe_depth": self.stripe_depth,
                "lanes": self.lanes,
                "dw_taps": self.dw_taps,
                "axi_bits": axi_bits,
            },
        }
