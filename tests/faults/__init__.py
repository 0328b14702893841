"""A TCP proxy that does to the calls of a process under test what networks do to them."""
