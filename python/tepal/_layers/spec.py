"""What all recipes for layers share, and how a `layers=` argument is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import _tepal
from .._values import Value, kind_of


class LayerSpec(Value):
    """The base of all recipes for layers."""

    _native: _tepal.Spec

    @property
    def name(self) -> str:
        """The command name of the layers it builds: "tls", "socks5", "lines"."""
        return self._native.name

    def _make(self, make: Callable[..., _tepal.Spec], *arguments: Any) -> None:
        # What the arguments' checks have let through and the layer does not take.
        try:
            native = make(*arguments)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None
        self._set("_native", native)

    def _check_usable(self, name: str) -> None:
        """Raise ValueError if a value that could be made cannot be a layer; `name` is its argument's."""


class Specs(list[_tepal.Spec]):
    """Native recipes from the wire upward, and the values that they belong to.

    Native code refers weakly to recipes that are Python: whoever uses them keeps this.
    """

    values: tuple[Any, ...] = ()


def specs_of(layers: Iterable[Any]) -> Specs:
    """The native recipes of a `layers=` argument, from the wire upward.

    Raises:
        TypeError: it is no iterable of recipes.
    """
    if isinstance(layers, (LayerSpec, str, bytes)):
        raise TypeError(f"layers must be a sequence of layer specs, not {kind_of(layers)}")
    try:
        found = list(layers)
    except TypeError:
        text = f"layers must be a sequence of layer specs, not {kind_of(layers)}"
        raise TypeError(text) from None
    specs = Specs(spec_of(layer, f"layers[{index}]") for index, layer in enumerate(found))
    specs.values = tuple(found)
    return specs


def spec_of(layer: Any, name: str = "spec") -> _tepal.Spec:
    """The native recipe of one value."""
    if isinstance(layer, LayerSpec):
        layer._check_usable(name)
        return layer._native
    recipe = getattr(layer, "_layer_spec", None)
    if recipe is not None:
        native = recipe()
        if isinstance(native, _tepal.Spec):
            return native
    raise TypeError(f"{name} must be a layer spec such as tepal.TLS(), not {layer!r}")
