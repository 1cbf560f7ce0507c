"""The command line. Each module is one group of commands; heavy imports happen inside the commands.

Exit status: 0 done, 1 not done, 2 wrong usage, 74 storage error, 75 try later or already running,
78 bad configuration.
"""

from .main import main

__all__ = ["main"]
