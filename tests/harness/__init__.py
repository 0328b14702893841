"""A local AWS, and `python -m app run` on it as a process of its own."""
