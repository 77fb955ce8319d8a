"""Contact sheets: what every kind looks like, for a person to judge."""

import numpy as np
from PIL import Image, ImageDraw

from .scene import KINDS, render

__all__ = ['contact_sheet']


def contact_sheet(kinds=KINDS, *, per_kind=8, seed=0, size=128):
    """Return one picture with a row of scenes for every kind.

    Parameters
    ----------
    kinds : sequence of str
    per_kind : int
        Scenes in a row.
    seed : int
        First seed of the first row.
    size : int
        Side of a scene in pixels.

    Returns
    -------
    PIL.Image.Image
    """
    margin = 112
    sheet = Image.new('RGB', (margin + per_kind * size, len(kinds) * size), 'white')
    draw = ImageDraw.Draw(sheet)
    for row, kind in enumerate(kinds):
        draw.text((4, row * size + size // 2), kind, fill='black')
        line = np.hstack([render(seed + 1000 * row + i, kind, size=size).image
                          for i in range(per_kind)])
        sheet.paste(Image.fromarray(line), (margin, row * size))
    return sheet
