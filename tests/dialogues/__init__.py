"""Byte-level dialogues with the server, written from the RFCs; `reading` has the format of the files."""
