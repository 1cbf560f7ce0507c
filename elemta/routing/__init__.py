"""Where does this recipient live?"""

from .router import (
    Route,
)

__all__ = [
    "Route",
]
