"""Translates the configuration of Postfix. Pure: files are read by the caller.

Not here: the queue of Postfix, its tables in other forms than text, and its accounts.
"""

from .draft import Remark
from .files import PostfixSyntaxError
from .parameters import PARAMETERS, Parameter
from .translate import Translation, translate

__all__ = ["PARAMETERS", "Parameter", "PostfixSyntaxError", "Remark", "Translation", "translate"]
