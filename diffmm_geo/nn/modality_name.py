def module_name(modality: str) -> str:
    r"""A module name: without dots, and unlike any method's name."""
    escaped = modality.replace('%', '%25').replace('.', '%2E')
    return f'modality_{escaped}'
