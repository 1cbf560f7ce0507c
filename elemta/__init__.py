"""elemta: a mail transfer agent on Trio. Start reading at `docs/OVERVIEW.md`."""

__version__ = "0.1.0"
