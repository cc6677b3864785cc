from ._official_dataset import OfficialDataset


class TikTok(OfficialDataset):
    r"""The TikTok dataset of short videos from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper, published at `HKUDS/DiffMM <https://github.com/HKUDS/DiffMM>`_:
    interactions of users and videos with visual, textual and acoustic
    features.

    Downloads are verified by their published SHA-256. Only :obj:`text_feat.npy`
    is verified by its shape and finite values instead. Existing files in
    :obj:`root/raw` are kept. Only features of the given :obj:`modalities` are
    needed.

    Args:
        root (str): The root directory of the dataset.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"image"`, :obj:`"text"` and :obj:`"audio"`.
            (default: :obj:`None`, all)
        transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.

    **STATS:**

    .. csv-table::
        :header: #users; #items; #train; #val; #test; #channels
        :delim: ;

        9,308; 6,710; 59,541; 3,051; 6,130; image 128, text 768, audio 128
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
