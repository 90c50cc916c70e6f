"""Amounts as text: every digit that is there, and at least as many decimals as usual."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

# ISO 4217: the currencies whose minor unit is not a hundredth.
_DECIMALS = (
    dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0)
    | dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0)
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)


def usual_decimals(currency: str | None) -> int:
    return _DECIMALS.get(currency or "", 2)


def digits(number: Decimal | int) -> str:
    """`number` in plain notation, without zeros at the end of its decimals."""
    # By text and not by Decimal.normalize, which rounds to the context's 28 digits.
    text = str(number) if isinstance(number, int) else f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(number: Decimal | int, decimals: int) -> str:
    """`number` with thousands separators and at least so many decimals: `-1,234.50`."""
    whole, _, given = digits(number).partition(".")
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    padded = given.ljust(decimals, "0")
    return f"{sign}{int(whole):,}" + (f".{padded}" if padded else "")
