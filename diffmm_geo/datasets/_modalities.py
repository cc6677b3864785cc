from collections.abc import Sequence


def select_modalities(
    modalities: Sequence[str],
    known: Sequence[str],
    where: str = '',
) -> tuple[str, ...]:
    r"""Checks names of modalities and returns them in their known order.

    Args:
        modalities (list[str]): The names asked for.
        known (list[str]): All there are.
        where (str, optional): Where they are, for the message.
            (default: :obj:`''`)
    """
    if isinstance(modalities, str):
        raise ValueError(
            f"'modalities' is expected to be a list or tuple of names, got "
            f'the string {modalities!r}'
        )
    unknown = [name for name in modalities if name not in known]
    if unknown:
        raise ValueError(
            f"'modalities' is expected to hold names out of {list(known)}"
            f'{where}, got {unknown}'
        )
    if len(set(modalities)) != len(modalities):
        raise ValueError(
            f"'modalities' is expected to hold each name once, got "
            f'{list(modalities)}'
        )
    return tuple(name for name in known if name in modalities)
