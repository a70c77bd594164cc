"""The public name of :mod:`ndrnn.inspect.conformance`: does a layer compute what the reference does?"""

from .inspect.conformance import assert_conforms

__all__ = ["assert_conforms"]
