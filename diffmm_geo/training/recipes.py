r"""The settings of the paper's authors for their data sets, and the library's
own settings for any other data set.
"""

from diffmm_geo.tasks.diffmm_config import DiffMMConfig

#: The settings of the paper's authors by the name of a data set, and the
#: library's own under ``'default'``.
RECIPES: dict[str, DiffMMConfig] = {
    'tiktok': DiffMMConfig.paper(num_epochs=50, patience=50, reg_weight=1e-4),
    'amazon-baby': DiffMMConfig.paper(
        num_epochs=50,
        patience=50,
        reg_weight=1e-5,
        ssl_weight=1e-1,
        keep_rate=1.0,
        projection='leaky_xavier',
        msi_weight=0.01,
        anchor='modality',
    ),
    'amazon-sports': DiffMMConfig.paper(
        num_epochs=50,
        patience=50,
        reg_weight=1e-6,
        ssl_weight=1e-2,
        temperature=0.1,
        residual_weight=0.1,
        keep_rate=1.0,
        msi_weight=0.5,
        anchor='modality',
    ),
    'default': DiffMMConfig(),
}
