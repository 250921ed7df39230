"""Sampling parameters by scene: what clients may leave out, must keep within, or cannot choose."""

from .plugin import Sampling

__all__ = ["Sampling"]
