"""The version, which nothing has to import the whole package for."""

__version__ = "0.2.0"
