"""Clients' keys in the store: the table, what each process remembers of it, and the command line."""
