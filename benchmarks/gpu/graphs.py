"""The graphs of the measurements on a GPU."""

TIKTOK, BABY = 'power-9308x6710x59541', 'power-19445x7050x118551'
SCALE = 'power-1e6x1e6x5e7'
KERNELS = ('power-1e6', TIKTOK, BABY, 'power-1e7', 'power-1e8', 'power-1e5')
NAMES = (*KERNELS, SCALE)
QUICK = 'power-60x40x300'
# For an epoch on a CPU, where one of TikTok takes a minute.
SMALL = 'power-600x400x4000'
