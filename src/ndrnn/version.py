"""The version, where the build and the library read it."""

__version__ = "0.2.0"
