"""The package under the book *Generating Images*: data -> model -> objective -> training -> evaluation -> figures."""

from importlib.metadata import version

__version__ = version("imagegen")
