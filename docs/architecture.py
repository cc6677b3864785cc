r"""Draws the architecture: `python docs/architecture.py architecture.svg`."""

import sys
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 960, 350
INK, GREY, PAPER = '#1f2933', '#5b6770', '#ffffff'
USER, ITEM = '#2f6db5', '#d9822b'
MODALITIES = {'image': '#2f9e62', 'text': '#8a5cc2', 'audio': '#c2456b'}
# An observed graph, and the edges that each modality generates.
EDGES = [(0, 0), (0, 1), (1, 1), (2, 2), (2, 3)]
GENERATED = {
    'image': [(0, 1), (1, 0), (2, 3)],
    'text': [(0, 2), (1, 1), (2, 2)],
    'audio': [(0, 0), (1, 3), (2, 1)],
}


class Drawing:
    def __init__(self):
        self.parts = []

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, text, size=13, color=INK, anchor='middle', **style):
        style = ''.join(
            f' {k.replace("_", "-")}="{v}"' for k, v in style.items()
        )
        self.add(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" '
            f'text-anchor="{anchor}"{style}>{escape(text)}</text>'
        )

    def code(self, x, y, text, color=GREY):
        self.text(x, y, text, 10.5, color, font_family='monospace')

    def box(self, x, y, width, height, color, fill=PAPER):
        self.add(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" '
            f'fill="{fill}" stroke="{color}" stroke-width="1.5"/>'
        )

    def arrow(self, points, color=GREY, dashed=False):
        path = 'M' + ' L'.join(f'{x} {y}' for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ''
        self.add(
            f'<path d="{path}" fill="none" stroke="{color}" '
            f'stroke-width="1.5" marker-end="url(#head)"{dash}/>'
        )

    def graph(self, x, y, edges, color, width=52, step=17):
        r"""Three users on the left, four items on the right."""
        user = [(x, y + step / 2 + n * step) for n in range(3)]
        item = [(x + width, y + n * step) for n in range(4)]
        for u, i in edges:
            (x1, y1), (x2, y2) = user[u], item[i]
            self.add(
                f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" '
                f'stroke="{color}" stroke-width="1.6"/>'
            )
        for nodes, fill in ((user, USER), (item, ITEM)):
            for cx, cy in nodes:
                self.add(f'<circle cx="{cx}" cy="{cy}" r="4.5" fill="{fill}"/>')

    def svg(self):
        return '\n'.join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
                f'{HEIGHT}" font-family="Helvetica, Arial, sans-serif">',
                '<title>DiffMM: a diffusion per modality generates graphs, '
                'which are aggregated with the observed one and contrasted'
                '</title>',
                '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" '
                'markerWidth="7" markerHeight="7" orient="auto"><path '
                f'd="M0 0 L8 4 L0 8 z" fill="{GREY}"/></marker></defs>',
                f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
                *self.parts,
                '</svg>\n',
            ]
        )


def inputs(d):
    d.text(75, 28, 'observed graph')
    d.box(20, 40, 110, 82, GREY)
    d.graph(49, 56, EDGES, INK)
    d.text(37, 137, 'users', 11, USER)
    d.text(110, 137, 'items', 11, ITEM)
    d.text(75, 183, 'item features')
    for n, (name, color) in enumerate(MODALITIES.items()):
        d.box(20, 195 + 36 * n, 110, 26, color)
        d.text(
            75, 212 + 36 * n, f'x_{name}', 12, color, font_family='monospace'
        )


def diffusion(d):
    d.text(262, 28, 'a diffusion per modality')
    d.text(440, 28, 'generated graphs')
    for n, (name, color) in enumerate(MODALITIES.items()):
        y = 40 + 92 * n
        d.box(200, y, 124, 82, color)
        d.text(262, y + 24, name, 13, color)
        # The steps from noise to a graph.
        for step, opacity in enumerate((0.2, 0.45, 0.7, 1.0)):
            d.add(
                f'<circle cx="{226 + 24 * step}" cy="{y + 45}" r="7" '
                f'fill="{color}" fill-opacity="{opacity}"/>'
            )
        d.code(262, y + 72, 'Denoiser')
        d.arrow([(324, y + 41), (378, y + 41)])
        d.box(382, y, 116, 82, color)
        d.graph(414, y + 15, GENERATED[name], color)
        d.arrow([(130, 81), (160, 81), (160, y + 30), (196, y + 30)])
        d.arrow(
            [(130, 208 + 36 * n), (174 + 8 * n, 208 + 36 * n)]
            + [(174 + 8 * n, y + 55)]
            + [(196, y + 55)],
            color,
            dashed=True,
        )
    d.code(350, 333, 'ModalityAwareGraphDiffusion')
    d.code(75, 318, 'HeteroData')


def aggregation(d):
    d.text(637, 28, 'aggregation')
    d.box(556, 40, 162, 174, INK)
    for n, line in enumerate(
        (
            'light convolutions over',
            'the observed and the',
            'generated graphs,',
            'weighted by modality',
        )
    ):
        d.text(637, 90 + 20 * n, line, 12.5)
    d.code(637, 196, 'MultiModalLightGCNConv')
    for n in range(3):
        y = 81 + 92 * n
        d.arrow([(498, y), (528, y), (528, 127), (552, 127)])
    d.text(790, 28, 'propagation')
    d.box(744, 40, 92, 174, INK)
    d.text(790, 130, 'L layers', 12.5)
    d.arrow([(718, 127), (740, 127)])
    d.box(862, 72, 88, 110, INK)
    for n, line in enumerate(('embeddings', 'of users', 'and items')):
        d.text(906, 104 + 18 * n, line, 12.5)
    d.text(906, 168, '→ scores', 12.5)
    d.arrow([(836, 127), (858, 127)])


def contrast(d):
    d.box(556, 246, 280, 60, INK)
    d.text(696, 270, 'contrast of modality views', 12.5)
    d.code(696, 292, 'CrossModalContrastiveLoss')
    d.arrow([(528, 265), (528, 276), (552, 276)])
    d.arrow([(906, 182), (906, 276), (840, 276)])
    d.code(755, 333, 'DiffMM')


def main(path):
    drawing = Drawing()
    for part in (inputs, diffusion, aggregation, contrast):
        part(drawing)
    Path(path).write_text(drawing.svg())


if __name__ == '__main__':
    main(*sys.argv[1:])
