r"""Checks shared by the public classes."""
