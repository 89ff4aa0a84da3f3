"""Continual learning of 3D CT segmentation, hospital after hospital, inside a budget stated in bytes."""

__version__ = "0.1.0"
