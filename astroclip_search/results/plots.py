# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Arrays and cards -> drawings in matplotlib's Axes.

What an archive or a user has written is drawn as it is: a dollar sign in it is no formula, and it
never reaches LaTeX. Colours are those of Okabe and Ito and of viridis, which colour-blind readers
can tell apart; nothing is said by colour alone.
"""

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import invalid, visible
from ..images.geometry import geometry_of
from ..ranking import calibration
from ..ranking.calibration import false_alarm_rate as rate_of
from ..ranking.calibration import z_score
from .cards import Card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

__all__ = ['draw_scores', 'draw_sky', 'draw_cards', 'draw_places', 'require_matplotlib',
           'threshold']

_ABOVE, _BELOW, _UNRELATED, _NO_SCORE = '#d55e00', '#56b4e9', '0.6', '0.55'

_FRAME = '#e69f00'

# What axes of the sky are called for a reader.
_AXES = {'pos.eq.ra': 'Right ascension', 'pos.eq.dec': 'Declination',
         'pos.galactic.lon': 'Galactic longitude', 'pos.galactic.lat': 'Galactic latitude'}

# Positions within this of their centre, in degrees, are drawn on a tangent plane.
_FIELD_RADIUS = 20.0

# The best rows, whose ranks are written beside them.
_N_LABELS = 5

# Inches of one picture with the lines below it; points of these.
_CELL, _FONT = (1.65, 2.1), 7

_VERBATIM: dict[str, Any] = {'parse_math': False, 'usetex': False}


def require_matplotlib() -> None:
    """
    Say how to get matplotlib where it is missing.
    """
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ImportError('Plots need matplotlib: '
                          'pip install "astroclip-search[plot]"') from error


def threshold(background: np.ndarray, false_alarm_rate: float,
              source: np.ndarray | None = None) -> float:
    """
    The cosine above which an image is at or below a false-alarm rate.
    """
    known = background[~np.isnan(background)]
    least = float(rate_of(np.array([np.inf]), known)[0])
    if least > false_alarm_rate:
        raise invalid(f'The {len(known)} reference images of the model tell no rate below '
                      f'{least:.2g}: give a false_alarm_rate of at least that.')
    return calibration.threshold(background, false_alarm_rate, source)


def draw_scores(cosines: np.ndarray, background: np.ndarray, false_alarm_rate: float, *,
                source: np.ndarray | None = None, title: str = '',
                ax: 'Axes | None' = None) -> 'Axes':
    """
    Histograms of rows and of unrelated images.
    """
    limit = threshold(background, false_alarm_rate, source)
    found = cosines > limit
    unrelated = background[~np.isnan(background)]
    rows, null, line = (z_score(values, unrelated) for values in
                        (cosines, unrelated, np.array([limit])))
    ax = _axes(ax, (6.4, 4.4))
    n, low, high = len(rows), min(rows.min(), null.min()), max(rows.max(), null.max())
    width = (high - low) / np.clip(2 * np.sqrt(n), 20, 60)
    # No bin lies on both sides of the threshold.
    edges = line[0] + width * np.arange(np.floor((low - line[0]) / width),
                                        np.ceil((high - line[0]) / width) + 1)
    ax.hist(null, edges, weights=np.full(len(null), n / len(null)), histtype='stepfilled',
            color=_UNRELATED, alpha=0.5, label=f'unrelated images: {len(null):,}, scaled to {n:,}')
    ax.hist([rows[~found], rows[found]], edges, stacked=True, color=[_BELOW, _ABOVE], rwidth=0.6,
            label=[f'rows below the threshold: {n - found.sum():,}',
                   f'rows above it: {found.sum():,} (by chance: {_few(n * false_alarm_rate)})'])
    if found.any():  # a single row of thousands would be a bar without height
        ax.plot(rows[found], np.full(found.sum(), 0.02), '^', color=_ABOVE, markersize=7,
                markeredgecolor='0.1', transform=ax.get_xaxis_transform(),
                label='each of these' if found.sum() > 1 else 'this one')
    ax.axvline(line[0], ymax=0.7, color=ax.xaxis.label.get_color(), linestyle='--', linewidth=1.2,
               label=f'threshold: false-alarm rate {false_alarm_rate:g}')
    ax.set_ylim(top=1.55 * ax.get_ylim()[1])  # room for the legend
    ax.set_xlabel('Similarity of the picture to the query\n'
                  '(standard deviations above unrelated images)')
    ax.set_ylabel('Number of rows per bin')
    _set_title(ax, title)
    ax.legend(loc='upper right', fontsize='small')
    return ax


def draw_sky(ra: np.ndarray, dec: np.ndarray, scores: np.ndarray, ranks: np.ndarray, *,
             title: str = '', ax: Any = None) -> 'Axes':
    """
    A map of positions coloured by score.
    """
    if ax is None:
        ax = _sky_axes(ra, dec)
    else:
        from astropy.visualization.wcsaxes import WCSAxes

        if not isinstance(ax, WCSAxes):
            raise invalid('ax must be a WCSAxes, such as pyplot.subplot(projection=wcs).')
    try:
        limits, world = (*ax.get_xlim(), *ax.get_ylim()), ax.get_transform('icrs')
    except (TypeError, ValueError) as error:
        raise invalid('ax must have two celestial axes.') from error
    ranked = np.isfinite(scores)
    if not ranked.all():
        ax.scatter(ra[~ranked], dec[~ranked], s=14, facecolors='none', edgecolors=_NO_SCORE,
                   linewidths=0.8, transform=world,
                   label=f'rows without a score: {(~ranked).sum():,}')
        ax.legend(loc='lower right', fontsize='small',
                  bbox_to_anchor=(1, -0.1 if _is_wide(ax) else 0))
    # The best are drawn last, on top of the others.
    drawn = np.flatnonzero(ranked)[np.argsort(-ranks[ranked], kind='stable')]
    points = ax.scatter(ra[drawn], dec[drawn], c=scores[drawn], cmap='viridis',
                        s=np.clip(4000 / max(len(drawn), 1), 8, 40), edgecolors='0.2',
                        linewidths=0.4, zorder=3, transform=world, rasterized=len(drawn) > 5000)
    best = drawn[::-1][:_N_LABELS]
    _label(ax, np.column_stack([ra, dec])[best], ranks[best], world)
    ax.axis(limits)
    ax.figure.colorbar(points, ax=ax, label='Score', shrink=0.7, pad=0.08,
                       orientation='horizontal' if _is_wide(ax) else 'vertical')
    _set_title(ax, title)
    return ax


def draw_cards(cards: Sequence[Card], *, columns: int, title: str = '',
               ax: 'Axes | None' = None) -> 'Axes':
    """
    A grid of pictures with what is said of them.
    """
    from PIL import Image

    n_rows = -(-len(cards) // columns)
    ax = _axes(ax, (columns * _CELL[0], n_rows * _CELL[1] + 0.4))
    ax.set_axis_off()
    _set_title(ax, title)
    letters = _letters(ax, columns * _FONT)
    height = _CELL[0] / _CELL[1] * 0.92  # of the picture, within its cell
    for i, card in enumerate(cards):
        left, top = i % columns / columns, 1 - i // columns / n_rows
        picture = ax.inset_axes((left + 0.04 / columns, top - height / n_rows, 0.92 / columns,
                                 height / n_rows), label=card.name)
        picture.set(xticks=[], yticks=[], anchor='S')
        if card.jpeg is not None:
            picture.imshow(np.asarray(Image.open(io.BytesIO(card.jpeg))))
        else:
            reason = textwrap.fill(_short(card.status, 100), letters - 4)
            picture.text(0.5, 0.5, reason, ha='center', va='center', fontsize=_FONT,
                         transform=picture.transAxes, **_VERBATIM)
        rank = f'{card.rank}. ' if card.rank is not None else ''
        lines = [rank + card.name, ', '.join(card.marks), *card.scores][:4]
        said = '\n'.join(_short(line, letters) for line in lines if line)
        picture.text(0.5, -0.03, said, ha='center', va='top', fontsize=_FONT,
                     transform=picture.transAxes, **_VERBATIM)
    return ax


def draw_places(picture: 'Image', boxes: np.ndarray, peaks: np.ndarray, numbers: np.ndarray, *,
                wcs: Any = None, heat: np.ndarray | None = None, title: str = '',
                ax: Any = None) -> 'Axes':
    """
    A picture in pixels of its image with the boxes ``(n, 4)`` and peaks ``(n, 2)`` of its
    places, each with its number; ``heat`` is a map that covers the picture, row 0 on top.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    # Left, right, bottom and top edge.
    (left, right), (bottom, top_edge) = geometry_of(picture).to_original([0, 1], [1, 0])
    extent = float(left), float(right), float(bottom), float(top_edge)
    ax = _picture_axes(extent, wcs) if ax is None else _axes(ax, (0, 0))
    # WCSAxes take no picture whose first row is on top.
    where: dict[str, Any] = {'extent': extent, 'origin': 'lower'}
    ax.imshow(np.flipud(np.asarray(picture)), interpolation='antialiased', **where)
    if heat is not None:
        # What is below the middle shows the picture; it is as light as it is warm.
        low, high = np.nanpercentile(heat, (50, 100))
        part = np.clip(np.nan_to_num((heat - low) / ((high - low) or 1)), 0, 1)
        colours = colormaps['viridis'](part)
        colours[..., 3] = 0.6 * part
        ax.imshow(np.flipud(colours), interpolation='bilinear', **where)
    outline = withStroke(linewidth=3, foreground='0.1')
    for (x0, y0, x1, y1), number in zip(boxes, numbers, strict=True):
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=_FRAME,
                               linewidth=1.4, path_effects=[outline]))
        # Above the box on the screen, whichever way the rows go.
        top = max(y0, y1) if extent[3] > extent[2] else min(y0, y1)
        ax.annotate(str(number), (min(x0, x1), top), (0, 3), textcoords='offset points',
                    color=_FRAME, fontsize='small', fontweight='bold', annotation_clip=True,
                    path_effects=[outline])
    ax.plot(*peaks.T, '+', color=_FRAME, markersize=7, path_effects=[outline])
    ax.set(xlim=extent[:2], ylim=extent[2:])
    _set_title(ax, title)
    return ax


def _picture_axes(extent: tuple[float, ...], wcs: Any) -> 'Axes':
    """
    Axes of a new figure for a picture, with a grid of the sky where that is known.
    """
    from matplotlib import pyplot

    left, right, bottom, top = extent
    ratio = np.clip(abs((top - bottom) / (right - left)), 0.3, 2)
    figure = pyplot.figure(figsize=(6.4, 6.4 * ratio + 0.4), layout='compressed')
    if wcs is None:
        return figure.add_subplot(xlabel='x (pixels)', ylabel='y (pixels)')
    ax = figure.add_subplot(projection=wcs)
    ax.coords.grid(color='white', alpha=0.35, linestyle='solid', linewidth=0.6)
    for coordinate, kind in zip(ax.coords, wcs.world_axis_physical_types, strict=True):
        if kind in _AXES:
            coordinate.set_axislabel(_AXES[kind])
    return ax


def _axes(ax: Any, size: tuple[float, float]) -> 'Axes':
    """
    The given Axes, or those of a new figure.
    """
    from matplotlib import pyplot
    from matplotlib.axes import Axes

    if ax is None:
        return pyplot.figure(figsize=size, layout='constrained').add_subplot()
    if not isinstance(ax, Axes):
        raise invalid('ax must be Axes of matplotlib, such as those of pyplot.subplots().')
    return ax


def _sky_axes(ra: np.ndarray, dec: np.ndarray) -> 'Axes':
    """
    A map that holds some positions, right ascension increasing to the left.
    """
    from astropy import units as u
    from astropy.coordinates import angular_separation
    from astropy.visualization.wcsaxes.frame import EllipticalFrame, RectangularFrame
    from astropy.wcs import WCS
    from matplotlib import pyplot

    longitude, latitude = np.radians(ra), np.radians(dec)
    x, y, z = (np.mean(part) for part in (np.cos(latitude) * np.cos(longitude),
                                          np.cos(latitude) * np.sin(longitude), np.sin(latitude)))
    centre = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    wcs, frame, size = WCS(naxis=2), RectangularFrame, (6.4, 5.2)
    separations = angular_separation(longitude, latitude, *centre)
    if np.degrees(separations.max()) <= _FIELD_RADIUS:
        wcs.wcs.ctype, wcs.wcs.cdelt = ('RA---TAN', 'DEC--TAN'), (-1 / 60, 1 / 60)
        wcs.wcs.crval = np.degrees(centre)
        pixels = wcs.wcs_world2pix(np.column_stack([ra, dec]), 0)
        middle = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
        half = max(0.55 * np.ptp(pixels, axis=0).max(), 1.0)  # arcmin
        (left, low), (right, high) = middle - half, middle + half
    else:
        wcs.wcs.ctype, wcs.wcs.cdelt = ('RA---AIT', 'DEC--AIT'), (-1, 1)
        frame, size = EllipticalFrame, (8.0, 5.2)
        high = np.degrees(np.sqrt(2))  # where the projection ends
        left, right, low = -2 * high - 1, 2 * high - 1, -high - 1
        high -= 1
    figure = pyplot.figure(figsize=size, layout='compressed')
    ax = figure.add_subplot(projection=wcs, frame_class=frame)
    ax.set(xlim=(left, right), ylim=(low, high), aspect='equal')
    for coordinate, name in zip(ax.coords, ('RA', 'Dec'), strict=True):
        coordinate.set_axislabel(f'{name} (ICRS, deg)')
        coordinate.set_format_unit(u.deg, decimal=True, show_decimal_unit=False)
    if frame is EllipticalFrame:
        ax.coords[0].set_ticks(spacing=60 * u.deg, size=0)
        ax.coords[0].set_ticklabel(size='small', alpha=0.7)
        ax.coords[1].set_ticks(spacing=30 * u.deg)
        ax.coords[0].set_axislabel('')  # would be written over the equator
        ax.text(0.5, -0.02, 'RA (ICRS, deg)', ha='center', va='top', transform=ax.transAxes)
    ax.coords.grid(color='0.5', alpha=0.4, linestyle='solid', linewidth=0.6)
    return ax


def _is_wide(ax: 'Axes') -> bool:
    return ax.get_data_ratio() < 0.6


def _label(ax: 'Axes', places: np.ndarray, ranks: np.ndarray, world: Any) -> None:
    """
    Write ranks beside their places; one of several at nearly the same place.
    """
    from matplotlib.patheffects import withStroke

    pixels = (world - ax.transData).transform(places)
    written: list[np.ndarray] = []
    outline = withStroke(linewidth=2.5, foreground=ax.get_facecolor())
    for place, rank in zip(pixels, ranks, strict=True):
        if all(np.hypot(*(place - other)) > 0.04 * abs(np.diff(ax.get_xlim())[0])
               for other in written):
            ax.annotate(str(rank), place, (4, 4), textcoords='offset points', fontsize='small',
                        fontweight='bold', annotation_clip=True, path_effects=[outline])
            written.append(place)


def _set_title(ax: 'Axes', title: str) -> None:
    size = float(ax.title.get_fontsize())
    ax.set_title(_short(title, _letters(ax, size)), **_VERBATIM)


def _letters(ax: 'Axes', size: float) -> int:
    """
    How many letters of a size in points are as wide as the Axes.
    """
    points = ax.get_window_extent().width * 72 / ax.figure.dpi
    return max(int(points / (0.56 * size)), 8)


def _few(number: float) -> str:
    return f'{number:,.0f}' if number >= 10 else f'{number:.2g}'


def _short(text: str, length: int) -> str:
    """
    One line of text, without its end where it is too long.
    """
    text = visible(' '.join(text.split()))
    return text if len(text) <= length else f'{text[:length - 1]}…'
