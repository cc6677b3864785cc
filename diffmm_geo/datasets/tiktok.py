from ._official_dataset import OfficialDataset


class TikTok(OfficialDataset):
    r"""The TikTok dataset of short videos from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper, as its authors publish it at
    `HKUDS/DiffMM <https://github.com/HKUDS/DiffMM>`_.
    Users interact with videos, which have visual, textual and acoustic
    features.

    Downloaded files are compared to their published SHA-256, except for
    :obj:`text_feat.npy`, for which none is known: it is checked to be an
    array of finite numbers with one row for each item.
    Files that are already in :obj:`root/raw` are used as they are.
    Only the features of the given :obj:`modalities` need to be there.

    Args:
        root (str): Root directory where the dataset should be saved.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"image"`, :obj:`"text"` and :obj:`"audio"`.
            An empty list loads the interactions only.
            (default: :obj:`None`, which loads all)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.HeteroData` and returns a transformed
            version, applied before every access. (default: :obj:`None`)
        pre_transform (callable, optional): The same, applied before the data
            is saved to disk. (default: :obj:`None`)
        force_reload (bool, optional): Whether to re-process the dataset.
            (default: :obj:`False`)

    **STATS:**

    .. list-table::
        :widths: 15 15 20 20 20 20
        :header-rows: 1

        * - #users
          - #items
          - #train
          - #val
          - #test
          - #channels
        * - 9,308
          - 6,710
          - 59,541
          - 3,051
          - 6,130
          - image 128, text 768, audio 128
    """

    url = f'{OfficialDataset.repository}/tiktok'
    known_modalities = ('image', 'text', 'audio')
    checksums = {
        'trnMat.pkl': (
            '1efbc49d1a7ce5268f01e3e0c558df1f8f8644628c76aa6536be4ec61d256916'
        ),
        'valMat.pkl': (
            'b6971ed696613d565613dd74b101c45b2aa002b66e8ba99cad03abf04db2397b'
        ),
        'tstMat.pkl': (
            'e83a93787d88728572dbdd5b131bae01a90e17c340820e7b8f0a7c27e69d6f9e'
        ),
        'image_feat.npy': (
            'f6c1ec1726ed2aa80315411199ab2143bee6333821bf58c5f00bd3f5b462efc2'
        ),
        'audio_feat.npy': (
            'd45a44a9d462f578802de914c2feea5cfd45742b2922775a085b9bdc1beba26f'
        ),
    }
