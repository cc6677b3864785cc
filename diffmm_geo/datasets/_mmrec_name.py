import re


def check_name(name: str) -> str:
    r"""The name of a file without its extension, for either way.

    Args:
        name (str): The name.
    """
    if not isinstance(name, str) or re.fullmatch(r'[\w.-]+', name) is None:
        raise ValueError(
            f"'name' is expected to be the name of a file without its "
            f'extension, got {name!r}'
        )
    return name
