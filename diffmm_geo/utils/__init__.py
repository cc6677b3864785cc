r"""Checks, files and processes, shared by all packages."""
