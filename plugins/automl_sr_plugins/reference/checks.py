"""Refusals of arguments that no net can be made from, in one wording for all factories."""

from __future__ import annotations

from automl_sr.api import PluginError

CHANNELS = (1, 3)
SCALES = (2, 3, 4)


def check_image(net: str, channels: int, scale: int) -> None:
    """Refuse images and scales that the nets are not made for."""
    check_choice(net, "channels", channels, CHANNELS)
    check_choice(net, "scale", scale, SCALES)


def check_choice(net: str, field: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is not one of those allowed."""
    if value not in allowed:
        listed = ", ".join(map(repr, allowed))
        raise PluginError(
            f"The net {net!r} cannot be made with {field} = {value!r}.", f"Use one of: {listed}."
        )


def check_positive(net: str, **values: float) -> None:
    """Refuse sizes below one and factors that are not positive."""
    for field, value in values.items():
        least = 0
        if isinstance(value, int):
            least = 1
        if not (value >= least and value > 0):
            raise PluginError(
                f"The net {net!r} cannot be made with {field} = {value!r}.", "Give a larger number."
            )


def check_multiple(net: str, field: str, value: int, of: int) -> None:
    """Refuse a size that cannot be divided as the net divides it."""
    if value % of:
        raise PluginError(
            f"The net {net!r} cannot be made with {field} = {value}.", f"Give a multiple of {of}."
        )
