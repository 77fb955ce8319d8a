"""Scenes: a seed and a kind in, a labelled picture out."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import bands, detectors, figures, galaxies, nebulae, solar, stars
from .camera import develop, present
from .fields import Canvas

__all__ = ['KINDS', 'Scene', 'render']

# kind: (painter, family of exposure). New kinds go to the end, since shards store indices.
PAINTERS: dict[str, tuple[Callable, str]] = {
    'spiral': (galaxies.spiral, 'galaxy'),
    'barred_spiral': (galaxies.barred_spiral, 'galaxy'),
    'elliptical': (galaxies.elliptical, 'galaxy'),
    'lenticular': (galaxies.lenticular, 'galaxy'),
    'edge_on': (galaxies.edge_on, 'galaxy'),
    'irregular': (galaxies.irregular, 'galaxy'),
    'merger': (galaxies.merger, 'galaxy'),
    'ring_galaxy': (galaxies.ring_galaxy, 'galaxy'),
    'galaxy_cluster': (galaxies.galaxy_cluster, 'sky'),
    'lens': (galaxies.lens, 'galaxy'),
    'globular_cluster': (stars.globular_cluster, 'sky'),
    'open_cluster': (stars.open_cluster, 'sky'),
    'star_field': (stars.star_field_scene, 'sky'),
    'planetary_nebula': (nebulae.planetary_nebula, 'sky'),
    'emission_nebula': (nebulae.emission_nebula, 'nebula'),
    'dark_nebula': (nebulae.dark_nebula, 'nebula'),
    'reflection_nebula': (nebulae.reflection_nebula, 'nebula'),
    'supernova_remnant': (nebulae.supernova_remnant, 'sky'),
    'protoplanetary_disk': (nebulae.protoplanetary_disk, 'radio'),
    'proplyd': (nebulae.proplyd, 'sky'),
    'jet': (nebulae.jet, 'sky'),
    'radio_galaxy': (galaxies.radio_galaxy, 'radio'),
    'comet': (solar.comet, 'sky'),
    'planet': (solar.planet, 'bright'),
    'moon': (solar.moon, 'bright'),
    'quasar': (galaxies.quasar, 'sky'),
    'saturated_star': (stars.saturated_star, 'sky'),
    'artifact': (detectors.artifact, 'sky'),
    'spectrum': (detectors.spectrum, 'sky'),
    'plot': (detectors.plot, 'figure'),
    'calibration': (detectors.calibration, 'detector'),
    'sun': (solar.sun, 'bright'),
    'deep_field': (galaxies.deep_field, 'sky'),
    'cirrus': (nebulae.cirrus, 'nebula'),
    'supernova': (galaxies.supernova, 'galaxy'),
    'coronagraph': (stars.coronagraph, 'sky'),
    'blank_sky': (detectors.blank_sky, 'sky'),
    'asteroid': (solar.asteroid, 'bright'),
    'eclipse': (solar.eclipse, 'bright'),
    'earth': (solar.earth, 'bright'),
    'night_landscape': (solar.night_landscape, 'figure'),
    'all_sky_map': (detectors.all_sky_map, 'figure'),
    'fading_radio_galaxy': (galaxies.fading_radio_galaxy, 'radio'),
    'galaxy_group': (galaxies.galaxy_group, 'galaxy'),
    'bubble': (nebulae.bubble, 'nebula'),
    'embedded_cluster': (nebulae.embedded_cluster, 'nebula'),
    'x_ray': (bands.x_ray, 'radio'),
    'velocity_map': (bands.velocity_map, 'figure'),
    'pixel_stamp': (bands.pixel_stamp, 'detector'),
    'finder_chart': (figures.finder_chart, 'figure'),
    'diagram': (figures.diagram, 'figure'),
    'launch': (figures.launch, 'figure'),
    'people': (figures.people, 'figure'),
    'spacecraft': (figures.spacecraft, 'figure'),
    'observatory': (figures.observatory, 'figure'),
    'planet_surface': (figures.planet_surface, 'bright'),
}

KINDS: tuple[str, ...] = tuple(PAINTERS)


@dataclass(frozen=True)
class Scene:
    """A rendered picture and what it shows.

    Attributes
    ----------
    image : ndarray of uint8, shape (size, size, 3)
        RGB picture.
    kind : str
        One of `KINDS`.
    attributes : dict
        What is visible beyond the kind: plain strings, booleans and integers, so that they
        survive JSON. ``style``, ``mosaic`` and ``annotated`` are always present.
    seed : int
        Seed that reproduces it.
    """

    image: np.ndarray = field(repr=False)
    kind: str
    attributes: dict[str, Any]
    seed: int


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def render(seed: int, kind: str | None = None, *, size: int = 128) -> Scene:
    """Render one scene of the synthetic sky.

    Parameters
    ----------
    seed : int
        Non-negative. The same seed, kind and size give the same picture.
    kind : str, optional
        One of `KINDS`; drawn from the seed by default.
    size : int
        Side of the picture in pixels, at least 32.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        For an unknown kind, a negative seed or a size that is too small.
    """
    if size < 32:
        raise ValueError(f'size must be at least 32 pixels, not {size}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, but is {seed}')
    if kind is None:
        kind = KINDS[int(np.random.default_rng(seed).integers(len(KINDS)))]
    if kind not in PAINTERS:
        raise ValueError(f'unknown kind {kind!r}; choose from {", ".join(KINDS)}')
    painter, family = PAINTERS[kind]
    canvas = Canvas(np.random.default_rng([seed, zlib.crc32(kind.encode())]), size)
    light, attributes = painter(canvas)
    mono = attributes.pop('mono', False)
    picture, style = develop(canvas, light, family, mono=mono,
                             small=attributes.get('small', False))
    image, marks = present(canvas, picture, size, family)
    attributes = {name: _plain(value) for name, value in attributes.items()}
    return Scene(image, kind, attributes | {'style': style} | marks, seed)
