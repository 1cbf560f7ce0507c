"""Fuzzing of what reads octets from strangers; `targets` states what must hold for any of them."""
