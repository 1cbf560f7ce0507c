"""Helpers for tests of elemta and of what is built on it; imported from their modules.

`pairs`: a client machine against a server machine. `peers`: scripted and well-behaved SMTP servers.
`dns`: a resolver from a dict, a DNS server on loopback. `network`: hosts and connections in memory.

Not here: anything that a running server needs.
"""
