def module_name(modality: str) -> str:
    r"""The name under which a module dictionary holds a modality: such names
    may have no dot, and must not shadow the methods of a dictionary.
    """
    escaped = modality.replace('%', '%25').replace('.', '%2E')
    return f'modality_{escaped}'
