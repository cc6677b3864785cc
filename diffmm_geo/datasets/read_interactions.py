from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from diffmm_geo.utils.checks import as_int, check_bool, check_int, describe
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.raw_ids import RawIds

from ._table import Column, number_ids, read_columns, read_lists
from ._user_item_data import SPLITS, earliest_edges, user_item_data

NAMES = ('user', 'item')


def read_interactions(
    path: str | Path,
    user: Column = 'user',
    item: Column = 'item',
    time: Column | None = None,
    *,
    val: str | Path | None = None,
    test: str | Path | None = None,
    delimiter: str | None = None,
    header: bool = True,
    lists: bool = False,
) -> HeteroData:
    r"""Reads a user-item graph from a table with a row for each interaction,
    such as a CSV or TSV file, plain or compressed with gzip. IDs are strings
    of any kind. :obj:`data['user'].raw_id` and :obj:`data['item'].raw_id` list
    them in the order in which they first appear: the ID of user :obj:`0` is
    :obj:`data['user'].raw_id[0]`. In a batch of PyG's loaders,
    :class:`~diffmm_geo.datasets.RawIds` stay those of the whole graph. Repeated
    interactions count once, at their earliest time.
    :func:`~diffmm_geo.datasets.split_interactions` holds interactions out.

    A column is a name, or a position counted from zero. The name
    :obj:`"user"` also finds :obj:`user:token` (the header of `RecBole
    <https://recbole.io>`_) or else :obj:`user_id`, :obj:`userId` and the like.

    Args:
        path (str or Path): The file.
        user (str or int, optional): The column of user IDs. Without a header,
            the default is the first column. (default: :obj:`"user"`)
        item (str or int, optional): The column of item IDs. Without a header,
            the default is the second column. (default: :obj:`"item"`)
        time (str or int, optional): The column of times (numbers or dates).
            They become :obj:`time` of the interactions; dates become
            nanoseconds since 1970. (default: :obj:`None`)
        val (str or Path, optional): A file of validation interactions in the
            same form. (default: :obj:`None`)
        test (str or Path, optional): A file of test interactions, likewise.
            (default: :obj:`None`)
        delimiter (str, optional): The character between columns. If not
            given, uses the first of tab, comma, semicolon, bar and space that
            the first line contains. (default: :obj:`None`)
        header (bool, optional): Whether the first line names the columns.
            (default: :obj:`True`)
        lists (bool, optional): Whether each line instead holds a user and all
            items of this user, separated by spaces, as in LightGCN's
            :obj:`train.txt`. (default: :obj:`False`)

    Raises:
        ValueError: If a file is damaged or lacks a column.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from diffmm_geo.datasets import read_interactions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, 'clicks.csv')
        ...     _ = path.write_text('who,what\nann,tea\nann,mug\nbob,tea\n')
        ...     data = read_interactions(path, user='who', item='what')
        >>> list(data['user'].raw_id), list(data['item'].raw_id)
        (['ann', 'bob'], ['tea', 'mug'])
        >>> data['user', 'interacts', 'item'].edge_index
        tensor([[0, 0, 1],
                [0, 1, 0]])
    """
    check_bool('header', header)
    layout = (user, item, time, delimiter, header)
    if check_bool('lists', lists) and layout != (*NAMES, None, None, True):
        raise ValueError(
            f"'lists' needs to be False to read columns (got {layout})"
        )
    if delimiter is not None and (
        not isinstance(delimiter, str) or len(delimiter) != 1
    ):
        raise ValueError(
            f"'delimiter' needs to be one character (got {describe(delimiter)})"
        )
    columns = [
        (_check_column(name, column, header), kind)
        for name, column, kind in zip(
            (*NAMES, 'time'), (user, item, time), ('id', 'id', 'time')
        )
        if name != 'time' or column is not None
    ]
    paths = {SPLITS[0]: check_path('path', path)}
    for key, name, file in zip(SPLITS[1:], ('val', 'test'), (val, test)):
        if file is not None:
            paths[key] = check_path(name, file)
    tables = [
        read_lists(str(file))
        if lists
        else read_columns(str(file), columns, delimiter, header)
        for file in paths.values()
    ]
    users, user_id = number_ids([table[0] for table in tables])
    items, item_id = number_ids([table[1] for table in tables])
    times = [table[2:] for table in tables]
    del tables  # Strings of any length.
    pairs = {
        key: earliest_edges(row, col, *time_of)
        for key, row, col, time_of in zip(paths, users, items, times)
    }
    edges = {key: edge_index for key, (edge_index, _) in pairs.items()}
    data = user_item_data(
        str(paths[SPLITS[0]]), len(user_id), len(item_id), {}, edges
    )
    data['user'].raw_id = RawIds(user_id)
    data['item'].raw_id = RawIds(item_id)
    if time is not None:
        data['user', 'interacts', 'item'].time = pairs[SPLITS[0]][1]
    return data


def _check_column(name: str, column: Any, header: bool) -> Column:
    if not header and column == name and name in NAMES:
        return NAMES.index(name)
    if as_int(column) is not None:
        return check_int(name, column, 0)
    if not isinstance(column, str) or not header:
        needed = 'a name or a position' if header else 'a position'
        raise ValueError(
            f"'{name}' needs to be {needed} of a column "
            f'(got {describe(column)})'
        )
    return column
