#!/usr/bin/env python3
"""Draws the pictures of docs/tensor-parallelism.md: docs/pictures/*.svg.

    scripts/pictures.py
"""

from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "docs" / "pictures"
RANKS = ["#4c78a8", "#f58518", "#54a24b", "#b279a2"]  # rank 0 to 3; readable on white
INK, FAINT, EVERYWHERE = "#222222", "#888888", "#d9d9d9"


class Picture:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.parts = []

    def box(self, x, y, width, height, fill, stroke="white"):
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{stroke}"/>'
        )

    def text(self, x, y, text, size=13, anchor="middle", fill=INK, weight="normal"):
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
            f'font-weight="{weight}">{text}</text>'
        )

    def line(self, x1, y1, x2, y2, stroke=INK, arrow=False, width=1.5):
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}" stroke-width="{width}"{end}/>'
        )

    def save(self, name, title):
        body = "\n".join(self.parts)
        (OUT / name).write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="sans-serif" role="img">\n'
            f"<title>{title}</title>\n"
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" rx="8" fill="white"/>\n{body}\n</svg>\n'
        )


def stripes(picture, x, y, width, height, across):
    """A matrix split over the ranks: into bands of rows, or of columns."""
    for rank, color in enumerate(RANKS):
        if across:
            picture.box(x, y + rank * height / 4, width, height / 4, color)
        else:
            picture.box(x + rank * width / 4, y, width / 4, height, color)


def split():
    picture = Picture(820, 330)
    row = 150
    picture.text(60, 60, "hidden state", weight="bold")
    picture.box(30, row - 60, 60, 120, EVERYWHERE)
    picture.text(60, row + 4, "4096")
    picture.text(60, row + 86, "the same", fill=FAINT)
    picture.text(60, row + 102, "on every rank", fill=FAINT)
    picture.line(96, row, 136, row, arrow=True)

    picture.text(220, 60, "gate_proj, up_proj", weight="bold")
    stripes(picture, 145, row - 70, 150, 140, across=True)
    for rank in range(4):
        picture.text(220, row - 70 + 35 * rank + 22, f"rank {rank}", fill="white")
    picture.text(220, row + 92, "column-parallel:", fill=FAINT)
    picture.text(220, row + 108, "each rank has its output features", fill=FAINT)
    picture.line(301, row, 341, row, arrow=True)

    picture.text(375, 60, "activations", weight="bold")
    stripes(picture, 350, row - 70, 50, 140, across=True)
    picture.text(375, row + 92, "each rank", fill=FAINT)
    picture.text(375, row + 108, "has its own", fill=FAINT)
    picture.line(406, row, 446, row, arrow=True)

    picture.text(525, 60, "down_proj", weight="bold")
    stripes(picture, 455, row - 50, 140, 100, across=False)
    for rank in range(4):
        picture.text(472.5 + 35 * rank, row + 4, f"{rank}", fill="white")
    picture.text(525, row + 92, "row-parallel:", fill=FAINT)
    picture.text(525, row + 108, "each rank has its input features", fill=FAINT)

    picture.text(745, 60, "partial sums", weight="bold")
    for rank, color in enumerate(RANKS):
        y = row - 66 + 36 * rank
        picture.line(601, row, 699, y + 12, stroke=FAINT)
        picture.box(705, y, 80, 24, color)
        picture.text(745, y + 17, f"rank {rank}", fill="white")
    picture.text(745, row + 92, "added over ranks:", fill=FAINT)
    picture.text(745, row + 108, "the one exchange", fill=FAINT)
    picture.text(410, 300, "A feed-forward network on 4 ranks. Attention is the same with heads in place of features.", size=14)
    picture.save("split.svg", "How the matrices of a feed-forward network are split over four ranks")


def tree():
    picture = Picture(820, 400)
    left, step = 110, 88
    xs = [left + step * i for i in range(8)]
    levels = [70, 140, 210, 280]
    names = ["leaves", "pairs", "fours", "the sum"]
    for level, name in enumerate(names):
        picture.text(40, levels[level] + 5, name, fill=FAINT)
    for leaf, x in enumerate(xs):
        picture.box(x - 30, levels[0] - 16, 60, 32, RANKS[leaf // 2])
        picture.text(x, levels[0] + 5, f"K {leaf}/8", fill="white")
    nodes = xs
    for level in range(1, 4):
        above, nodes = nodes, [(nodes[2 * i] + nodes[2 * i + 1]) / 2 for i in range(len(nodes) // 2)]
        for i, x in enumerate(nodes):
            for j in (0, 1):
                picture.line(above[2 * i + j], levels[level - 1] + 17, x, levels[level] - 17, arrow=True)
            fill = RANKS[i] if level == 1 else EVERYWHERE
            picture.box(x - 22, levels[level] - 16, 44, 32, fill)
            picture.text(x, levels[level] + 5, "+", size=16, fill="white" if level == 1 else INK)
    picture.line(70, 175, 790, 175, stroke=FAINT)
    picture.text(418, 167, "each of 4 ranks by itself", fill=FAINT, size=12)
    picture.text(418, 190, "exchanged, the same on each", fill=FAINT, size=12)
    picture.text(410, 340, "One dot product: 8 leaves in a fixed order, added in one fixed tree. The number of ranks", size=14)
    picture.text(410, 362, "moves the line between what a rank adds by itself and what is exchanged, and not one bit.", size=14)
    picture.save("tree.svg", "The canonical sum: eight leaves in a fixed binary tree, on four ranks")


def block():
    picture = Picture(820, 330)
    stages = [
        ("norm", 70, True), ("qkv", 80, False), ("attention", 90, False), ("o_proj", 80, False),
        ("norm", 70, True), ("gate, up", 90, False), ("silu", 60, False), ("down_proj", 90, False),
    ]
    left = 90
    for rank in range(4):
        y = 60 + 48 * rank
        picture.text(45, y + 21, f"rank {rank}", fill=RANKS[rank], weight="bold")
        x = left
        for name, width, joint in stages:
            picture.box(x, y, width - 6, 32, EVERYWHERE if joint else RANKS[rank])
            picture.text(x + (width - 6) / 2, y + 21, name, fill=INK if joint else "white", size=12)
            x += width
        picture.line(x, y + 16, x + 24, y + 16, arrow=True)
    for x, label in ((left + 322, "sum over ranks"), (left + 634, "sum, at the next norm")):
        picture.line(x - 5, 50, x - 5, 250, stroke="#c0392b", width=2)
        picture.text(x - 5, 42, label, fill="#c0392b", size=12)
    picture.text(410, 285, "One transformer block. o_proj and down_proj leave partial sums behind; they are added over", size=14)
    picture.text(410, 307, "ranks when the next norm needs the hidden state. Nothing else is exchanged.", size=14)
    picture.save("block.svg", "One transformer block on four ranks, with its two exchanges")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    split()
    tree()
    block()
