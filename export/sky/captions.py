"""Words for scenes: class phrases, details that are really there, styles, templates."""

from typing import Any

import numpy as np

__all__ = ['HELD_OUT', 'caption', 'names']

NAMES: dict[str, tuple[str, ...]] = {
    'spiral': ('spiral galaxy', 'galaxy with spiral arms', 'grand design spiral', 'disk galaxy with '
               'spiral structure', 'unbarred spiral galaxy', 'late-type spiral galaxy', 'Sc galaxy',
               'disk galaxy', 'spiral galaxies'),
    'barred_spiral': ('barred spiral galaxy', 'galaxy with a central bar', 'SB galaxy', 'barred '
                      'galaxy', 'spiral galaxy with a bar', 'strong stellar bar'),
    'elliptical': ('elliptical galaxy', 'early-type galaxy', 'giant elliptical', 'smooth round '
                   'galaxy', 'featureless elliptical galaxy', 'red and dead galaxy', 'smooth galaxy '
                   'without structure', 'spheroidal galaxy'),
    'lenticular': ('lenticular galaxy', 'S0 galaxy', 'smooth disk galaxy without spiral arms',
                   'lenticular S0 galaxy with a disk', 'armless disk galaxy'),
    'edge_on': ('edge-on galaxy', 'edge-on disk galaxy', 'galaxy seen edge-on', 'edge-on spiral '
                'galaxy', 'thin galaxy seen from the side', 'highly inclined disk galaxy'),
    'irregular': ('irregular galaxy', 'dwarf irregular galaxy', 'dwarf galaxy', 'Magellanic '
                  'irregular galaxy', 'clumpy star-forming dwarf galaxy', 'small blue galaxy',
                  'blue compact dwarf galaxy'),
    'merger': ('merging galaxies', 'interacting galaxies', 'galaxy merger', 'colliding galaxies',
               'galaxy collision', 'pair of interacting galaxies', 'disturbed galaxies',
               'peculiar galaxy pair'),
    'ring_galaxy': ('ring galaxy', 'collisional ring galaxy', 'galaxy with a ring', 'ringed galaxy',
                    'ring of stars around a galaxy nucleus'),
    'galaxy_cluster': ('galaxy cluster', 'cluster of galaxies', 'massive galaxy cluster', 'rich '
                       'cluster of galaxies', 'Abell cluster of galaxies', 'many elliptical galaxies '
                       'in a cluster', 'galaxy group', 'brightest cluster galaxy'),
    'lens': ('gravitational lens', 'strong lensing', 'gravitationally lensed galaxy', 'lensed galaxy',
             'strong gravitational lens', 'galaxy-galaxy lens', 'lens galaxy with distorted '
             'background source'),
    'globular_cluster': ('globular cluster', 'globular star cluster', 'dense spherical star cluster',
                         'ancient star cluster', 'tightly packed ball of stars', 'old star cluster'),
    'open_cluster': ('open cluster', 'open star cluster', 'young star cluster', 'galactic star '
                     'cluster', 'cluster of bright blue stars', 'stellar association'),
    'star_field': ('star field', 'field of stars', 'stars', 'Milky Way star field', 'stellar field',
                   'resolved stars'),
    'planetary_nebula': ('planetary nebula', 'planetary nebula with a shell', 'dying star ejecting '
                         'gas', 'bubble-like planetary nebula', 'glowing shell around a hot white '
                         'dwarf', 'PN'),
    'emission_nebula': ('emission nebula', 'HII region', 'H II region', 'star-forming region', 'star '
                        'forming nebula', 'glowing gas cloud', 'diffuse nebula', 'ionized hydrogen '
                        'gas', 'stellar nursery', 'nebula'),
    'dark_nebula': ('dark nebula', 'dark dust cloud', 'dark molecular cloud', 'obscuring dust',
                    'dark interstellar cloud', 'absorption nebula', 'dust silhouetted against a '
                    'bright background', 'molecular cloud'),
    'reflection_nebula': ('reflection nebula', 'dust reflecting starlight', 'dusty nebula around '
                          'bright stars', 'starlight scattered by dust', 'stars wrapped in dust'),
    'supernova_remnant': ('supernova remnant', 'remnant of an exploded star', 'filaments of a '
                          'supernova remnant', 'supernova explosion debris', 'SNR', 'stellar '
                          'explosion remnant'),
    'protoplanetary_disk': ('protoplanetary disk', 'circumstellar disk', 'dusty disk around a young '
                            'star', 'planet-forming disk', 'disk around a T Tauri star',
                            'protoplanetary disc'),
    'proplyd': ('proplyd', 'edge-on protoplanetary disk', 'young stellar object with a disk '
                'silhouette', 'protostar with a reflection nebula', 'embedded protostar',
                'protoplanetary disk'),
    'jet': ('Herbig-Haro object', 'stellar jet', 'protostellar jet', 'HH jet with bow shocks',
            'outflow from a young star', 'protostar outflow', 'bipolar outflow', 'HH object'),
    'radio_galaxy': ('radio galaxy', 'radio galaxy with jets and lobes', 'double radio source',
                     'AGN jet', 'extended radio source', 'radio lobes', 'radio jets'),
    'comet': ('comet', 'icy comet', 'comet coma', 'comet near the Sun', 'active comet'),
    'planet': ('planet', 'solar system planet', 'disk of a planet'),
    'moon': ('moon', 'cratered surface', 'impact craters', 'cratered moon', 'rocky moon with '
             'craters', 'lunar craters'),
    'quasar': ('quasar', 'active galactic nucleus', 'bright point source', 'QSO', 'AGN host galaxy',
               'bright unresolved nucleus', 'AGN'),
    'saturated_star': ('saturated star', 'very bright star', 'overexposed star', 'glare of a bright '
                       'star'),
    'artifact': ('image artifact', 'contaminated image', 'image defects'),
    'spectrum': ('spectrum', 'spectroscopic frame', 'raw spectroscopic image', 'dispersed light on '
                 'a detector', 'spectral image', '2D spectrum'),
    'plot': ('plot', 'graph', 'figure with axes', 'diagram'),
    'calibration': ('calibration frame', 'instrument calibration image', 'detector calibration '
                    'exposure'),
    'sun': ('Sun', 'solar disk', 'image of the Sun', 'solar observation', 'solar activity'),
    'deep_field': ('deep field', 'many faint distant galaxies', 'extragalactic deep field', 'galaxy '
                   'survey field', 'deep survey image', 'faint background galaxies'),
    'cirrus': ('interstellar clouds', 'infrared cirrus', 'filamentary dust emission', 'interstellar '
               'medium', 'warm dust and gas', 'wispy interstellar dust', 'molecular cloud emission'),
    'supernova': ('supernova in a galaxy', 'supernova host galaxy', 'bright new star in a spiral '
                  'galaxy', 'extragalactic supernova'),
    'coronagraph': ('coronagraphic image', 'coronagraph', 'high-contrast imaging of a star',
                    'starlight suppressed by a coronagraph', 'residual speckles'),
    'blank_sky': ('blank sky', 'empty field', 'nothing but noise', 'background noise', 'failed '
                  'exposure without sources'),
    'asteroid': ('asteroid', 'small solar system body', 'minor planet', 'rocky asteroid', 'irregular '
                 'rocky body'),
    'eclipse': ('solar eclipse', 'eclipse of the Sun', 'eclipsed Sun'),
    'earth': ('Earth', 'planet Earth from space', 'Earth seen from orbit', 'clouds and oceans of '
              'Earth'),
    'night_landscape': ('night sky over a landscape', 'night sky photograph', 'starry sky above the '
                        'horizon'),
    'all_sky_map': ('all-sky map', 'map of the whole sky', 'full-sky projection'),
}

HELD_OUT: dict[str, tuple[str, ...]] = {
    'spiral': ('pinwheel-shaped galaxy', 'whirlpool of stars'),
    'barred_spiral': ('spiral crossed by a straight bar of stars',),
    'elliptical': ('egg-shaped galaxy', 'structureless ball of old stars'),
    'edge_on': ('disc galaxy viewed side-on', 'pencil-thin galaxy'),
    'irregular': ('shapeless little galaxy',),
    'merger': ('two galaxies crashing into each other', 'train wreck of galaxies'),
    'ring_galaxy': ('cartwheel-like galaxy',),
    'galaxy_cluster': ('hundreds of galaxies bound by gravity',),
    'lens': ('light bent around a massive galaxy', 'gravity acting as a magnifying glass'),
    'globular_cluster': ('swarm of ancient stars',),
    'open_cluster': ('sparse family of young stars',),
    'planetary_nebula': ('cast-off envelope of a sun-like star',),
    'emission_nebula': ('cloud of hydrogen lit by hot stars',),
    'dark_nebula': ('inky cloud blocking the stars behind it',),
    'reflection_nebula': ('blue haze around young stars',),
    'supernova_remnant': ('tattered shell of a dead star', 'blast wave of an exploded star'),
    'protoplanetary_disk': ('cradle of planets around a star',),
    'proplyd': ('butterfly-shaped nebula of a forming star',),
    'jet': ('narrow beam of gas shot out by a newborn star',),
    'radio_galaxy': ('two giant lobes of radio emission',),
    'comet': ('dirty snowball with a tail',),
    'planet': ('world of our solar system',),
    'moon': ('pockmarked rocky ground',),
    'quasar': ('brilliant galactic core',),
    'saturated_star': ('blinding star that spoils the exposure',),
    'spectrum': ('light split into its colours',),
    'plot': ('chart with curves and labels',),
    'calibration': ('frame for correcting the camera',),
    'sun': ('our own star',),
    'deep_field': ('look back to the early universe',),
}

TEMPLATES = ('{}', '{}', '{}', 'a {}', 'an image of {}', 'astronomical image of a {}', 'telescope '
             'image of a {}', 'a picture of a {}', '{} observed with a telescope', 'observation of '
             'a {}', 'photo of a {}', 'preview image: {}', '{} in the sky', 'archive image showing '
             'a {}', 'imaging of {}', 'target: {}', 'show me a {}', 'find images of {}')

STYLES = {
    'mono': ('black and white', 'grayscale', 'single-band', 'monochrome', 'single filter'),
    'inverted': ('inverted', 'negative', 'inverted grayscale'),
    'false colour': ('false-colour', 'colour-mapped', 'false color', 'pseudo-colour'),
    'colour': ('colour', 'color composite', 'RGB composite', 'true colour', 'multi-band'),
    'figure': (),
}

CATALOGUE = {
    'spiral': ('GALAXY; SPIRAL', 'Galaxy;Spiral galaxies'), 'barred_spiral': (
        'GALAXY; BARRED SPIRAL', 'Galaxy;Barred galaxies'),
    'elliptical': ('GALAXY; ELLIPTICAL', 'Galaxy;Elliptical galaxies'),
    'lenticular': ('GALAXY; LENTICULAR', 'Galaxy;Lenticular galaxies'),
    'edge_on': ('GALAXY; EDGE-ON', 'Galaxy;Disk galaxies'),
    'irregular': ('GALAXY; IRREGULAR', 'Galaxy;Dwarf irregular galaxies'),
    'merger': ('GALAXY; INTERACTING GALAXY', 'Galaxy;Interacting galaxies'),
    'ring_galaxy': ('GALAXY; RING',), 'galaxy_cluster': ('CLUSTER OF GALAXIES', 'Clusters of '
                                                        'Galaxies;Rich clusters'),
    'lens': ('GALAXY; GRAVITATIONAL LENS', 'Galaxy;Gravitational lenses'),
    'globular_cluster': ('STELLAR CLUSTER; GLOBULAR', 'Stellar Cluster;Globular star clusters'),
    'open_cluster': ('STELLAR CLUSTER; OPEN', 'Stellar Cluster;Young star clusters'),
    'star_field': ('FIELD; STARS', 'Stellar fields'),
    'planetary_nebula': ('ISM; PLANETARY NEBULA', 'ISM;Planetary nebulae'),
    'emission_nebula': ('ISM; HII REGION', 'ISM;H II regions'),
    'dark_nebula': ('ISM; DARK CLOUD', 'ISM;Dark interstellar clouds'),
    'reflection_nebula': ('ISM; REFLECTION NEBULA',),
    'supernova_remnant': ('ISM; SUPERNOVA REMNANT', 'ISM;Supernova remnants'),
    'protoplanetary_disk': ('CIRCUMSTELLAR MATTER', 'Star;Protoplanetary disks'),
    'proplyd': ('STAR; PROTOSTAR', 'ISM;Protostars'), 'jet': ('ISM; HERBIG-HARO OBJECT',),
    'radio_galaxy': ('GALAXY; RADIO', 'Galaxy;Radio galaxies'),
    'comet': ('SOLAR SYSTEM; COMET',), 'planet': ('SOLAR SYSTEM; PLANET',),
    'moon': ('SOLAR SYSTEM; MOON',), 'quasar': ('GALAXY; QUASAR', 'Galaxy;Active galactic nuclei'),
    'calibration': ('CALIBRATION',), 'deep_field': ('UNIDENTIFIED; BLANK FIELD SURVEY',
                                                   'Galaxy;High-redshift galaxies'),
    'cirrus': ('ISM; INTERSTELLAR MEDIUM', 'ISM;Interstellar filaments'),
    'blank_sky': ('UNIDENTIFIED; BLANK SKY',), 'asteroid': ('SOLAR SYSTEM; ASTEROID',),
}

# (kind, attribute, value): phrases that are true only then. Replace the class phrase.
DETAILS: dict[tuple[str, str, Any], tuple[str, ...]] = {
    ('spiral', 'arms', 'tight'): ('spiral galaxy with tightly wound arms',),
    ('spiral', 'arms', 'loose'): ('spiral galaxy with loose open arms',),
    ('spiral', 'flocculent', True): ('flocculent spiral galaxy', 'patchy spiral galaxy'),
    ('spiral', 'face_on', True): ('face-on spiral galaxy',),
    ('spiral', 'inclined', True): ('inclined spiral galaxy',),
    ('spiral', 'small', True): ('small spiral galaxy', 'distant spiral galaxy'),
    ('spiral', 'n_arms', 2): ('two-armed spiral galaxy',),
    ('barred_spiral', 'face_on', True): ('face-on barred spiral galaxy',),
    ('barred_spiral', 'small', True): ('small barred galaxy',),
    ('spiral', 'infrared', True): ('spiral galaxy in the infrared', 'dust filaments and bubbles in a '
                                   'spiral galaxy'),
    ('barred_spiral', 'infrared', True): ('barred galaxy in the infrared',),
    ('elliptical', 'round', True): ('round elliptical galaxy', 'completely round smooth galaxy'),
    ('elliptical', 'elongated', True): ('elongated elliptical galaxy', 'cigar-shaped smooth galaxy'),
    ('elliptical', 'small', True): ('small smooth galaxy', 'compact elliptical galaxy'),
    ('edge_on', 'dust_lane', True): ('edge-on galaxy with a dust lane', 'dust lane across an '
                                     'edge-on galaxy', 'dust lane'),
    ('edge_on', 'dust_lane', False): ('edge-on galaxy without a dust lane',),
    ('edge_on', 'bulge', True): ('edge-on galaxy with a bright bulge',),
    ('edge_on', 'thin', True): ('needle-like galaxy', 'superthin galaxy', 'bulgeless edge-on disk'),
    ('irregular', 'small', True): ('faint dwarf galaxy', 'small irregular galaxy'),
    ('merger', 'tails', True): ('tidal tails', 'galaxy collision with tidal tails', 'tidal tail of '
                                'interacting galaxies', 'tidal debris'),
    ('merger', 'bridge', True): ('galaxies connected by a bridge', 'tidal bridge between galaxies'),
    ('merger', 'small', True): ('small disturbed galaxy', 'close galaxy pair'),
    ('ring_galaxy', 'spokes', True): ('ring galaxy with spokes',),
    ('galaxy_cluster', 'arcs', True): ('galaxy cluster with lensed arcs', 'giant arcs around a '
                                       'galaxy cluster', 'cluster lens'),
    ('galaxy_cluster', 'gas', True): ('galaxy cluster with hot gas and dark matter', 'colliding '
                                      'galaxy clusters in X-rays'),
    ('lens', 'ring', True): ('Einstein ring', 'Einstein ring around a galaxy'),
    ('lens', 'ring', False): ('lensed arc around a galaxy', 'gravitationally lensed arcs'),
    ('lens', 'images', True): ('quadruply lensed quasar', 'multiple lensed images', 'Einstein cross'),
    ('globular_cluster', 'core', True): ('resolved globular cluster with a broad core',),
    ('globular_cluster', 'compact', True): ('compact globular cluster', 'core-collapsed globular '
                                            'cluster'),
    ('open_cluster', 'nebulous', True): ('young cluster with nebulosity',),
    ('open_cluster', 'rich', True): ('rich open cluster',),
    ('star_field', 'crowded', True): ('crowded star field', 'dense star field toward the galactic '
                                      'bulge', 'dense stellar field', 'thousands of stars'),
    ('star_field', 'crowded', False): ('sparse star field', 'few stars', 'high-latitude star field'),
    ('planetary_nebula', 'shape', 'bipolar'): ('bipolar planetary nebula', 'hourglass-shaped nebula',
                                               'butterfly nebula', 'bipolar nebula'),
    ('planetary_nebula', 'shape', 'ring'): ('ring-shaped planetary nebula', 'ring nebula'),
    ('planetary_nebula', 'shape', 'ellipse'): ('elliptical planetary nebula',),
    ('planetary_nebula', 'shape', 'shells'): ('planetary nebula with concentric shells', 'planetary '
                                              'nebula with a halo'),
    ('planetary_nebula', 'shape', 'disk'): ('round planetary nebula', 'filled disk-like planetary '
                                            'nebula'),
    ('planetary_nebula', 'central_star', True): ('planetary nebula with a central star',),
    ('planetary_nebula', 'small', True): ('compact planetary nebula',),
    ('emission_nebula', 'cluster', True): ('nebula with a young star cluster', 'massive stars '
                                           'ionizing a nebula', 'star cluster embedded in gas'),
    ('emission_nebula', 'dusty', True): ('emission nebula with dark dust lanes', 'gas and dust '
                                         'clouds'),
    ('dark_nebula', 'shape', 'pillar'): ('pillars of gas and dust', 'dust pillars', 'pillars of '
                                         'creation', 'elephant trunk'),
    ('dark_nebula', 'shape', 'globule'): ('Bok globule', 'small round dark cloud', 'dark globule'),
    ('dark_nebula', 'shape', 'filament'): ('dark filament', 'infrared dark cloud filament', 'dust '
                                           'filament'),
    ('dark_nebula', 'glowing', False): ('dark cloud in front of a star field',),
    ('reflection_nebula', 'blue', True): ('blue reflection nebula',),
    ('reflection_nebula', 'wispy', True): ('wispy reflection nebula', 'streaks of dust around '
                                           'bright stars'),
    ('supernova_remnant', 'shape', 'crab'): ('pulsar wind nebula', 'Crab-like supernova remnant',
                                             'Crab nebula'),
    ('supernova_remnant', 'shape', 'shell'): ('expanding shell of a supernova', 'shell-type '
                                              'supernova remnant'),
    ('supernova_remnant', 'shape', 'arc'): ('filaments of shocked gas', 'part of a large supernova '
                                            'remnant', 'Veil-like filaments', 'shock front'),
    ('supernova_remnant', 'x_rays', True): ('X-ray image of a supernova remnant', 'supernova remnant '
                                            'in X-rays'),
    ('protoplanetary_disk', 'gaps', True): ('disk with rings and gaps', 'concentric rings and gaps '
                                            'in a protoplanetary disk'),
    ('protoplanetary_disk', 'cavity', True): ('transition disk', 'disk with an inner cavity',
                                              'debris ring'),
    ('protoplanetary_disk', 'spiral', True): ('spiral arms in a protoplanetary disk',),
    ('protoplanetary_disk', 'scattered', True): ('circumstellar disk in scattered light', 'debris '
                                                 'disk'),
    ('protoplanetary_disk', 'inclined', True): ('inclined circumstellar disk',),
    ('proplyd', 'shape', 'silhouette'): ('disk shadow and bipolar reflection nebula', 'dark lane '
                                         'between two lobes', 'flared edge-on disk'),
    ('proplyd', 'shape', 'cocoon'): ('photoevaporating disk', 'ionized proplyd with a tail',
                                     'photoevaporating protoplanetary disk'),
    ('proplyd', 'jet', True): ('edge-on disk with a jet', 'protostar with a jet'),
    ('jet', 'two_sided', True): ('bipolar jet', 'two-sided stellar jet'),
    ('jet', 'two_sided', False): ('one-sided stellar jet',),
    ('radio_galaxy', 'class', 'FR I'): ('FR I radio galaxy', 'radio plumes fading away from the '
                                        'core', 'Fanaroff-Riley class I', 'core-brightened radio '
                                        'source'),
    ('radio_galaxy', 'class', 'FR II'): ('FR II radio galaxy', 'FR II radio source', 'edge-'
                                         'brightened radio lobes', 'double-lobed radio source',
                                         'radio lobes with hotspots'),
    ('radio_galaxy', 'bent', True): ('bent-tail radio galaxy', 'wide-angle tail radio source'),
    ('radio_galaxy', 'compact', True): ('compact double radio source', 'small radio source'),
    ('comet', 'tail', True): ('comet with a tail', 'comet coma and dust tail', 'dust tail'),
    ('comet', 'tail', False): ('comet without a visible tail', 'round fuzzy comet'),
    ('comet', 'ion_tail', True): ('comet with an ion tail', 'comet with two tails'),
    ('comet', 'trailed', True): ('comet with trailed stars',),
    ('planet', 'body', 'jupiter'): ('Jupiter', 'gas giant with cloud bands', 'planet Jupiter'),
    ('planet', 'body', 'saturn'): ('Saturn', 'planet with rings', 'rings of Saturn'),
    ('planet', 'body', 'mars'): ('Mars', 'red planet', 'planet Mars'),
    ('planet', 'body', 'venus'): ('Venus', 'featureless planet disk'),
    ('planet', 'body', 'ice giant'): ('Neptune', 'Uranus', 'ice giant planet'),
    ('planet', 'spot', True): ('Great Red Spot on Jupiter', 'storm on a giant planet'),
    ('planet', 'crescent', True): ('crescent planet', 'crescent phase of a planet'),
    ('moon', 'whole', True): ('the Moon', 'disk of a moon', 'lunar disk'),
    ('moon', 'whole', False): ('close-up of craters', 'lunar surface'),
    ('moon', 'crescent', True): ('crescent moon',),
    ('quasar', 'host', True): ('quasar host galaxy', 'active nucleus of a galaxy'),
    ('quasar', 'spikes', True): ('bright point source with diffraction spikes',),
    ('saturated_star', 'spikes', True): ('bright star with diffraction spikes', 'diffraction spikes'),
    ('saturated_star', 'bleeding', True): ('saturated star with a bleeding trail', 'blooming along '
                                           'columns', 'charge bleeding'),
    ('saturated_star', 'ghost', True): ('star with an optical ghost', 'internal reflection ghost'),
    ('artifact', 'origin', 'satellite'): ('satellite trail', 'satellite streak across the image',
                                          'airplane or satellite trail', 'streak'),
    ('artifact', 'origin', 'cosmic rays'): ('cosmic rays', 'cosmic ray hits on the detector', 'image '
                                            'full of cosmic rays'),
    ('spectrum', 'layout', 'grism'): ('slitless grism spectra', 'grism image', 'slitless spectroscopy'),
    ('spectrum', 'layout', 'long slit'): ('long-slit spectrum', '2D spectrum with sky lines'),
    ('spectrum', 'layout', 'echelle'): ('echelle spectrum', 'echelle orders'),
    ('spectrum', 'layout', 'multi slit'): ('multi-object slit spectra', 'multi-slit spectroscopy'),
    ('plot', 'style_of_plot', 'spectrum'): ('spectrum plot', '1D spectrum with emission lines', 'flux '
                                            'versus wavelength plot'),
    ('plot', 'style_of_plot', 'light curve'): ('light curve', 'light curve plot', 'time series plot'),
    ('plot', 'style_of_plot', 'scatter'): ('scatter plot', 'plot of data points'),
    ('calibration', 'frame', 'flat'): ('flat field', 'flat-field frame with dust donuts'),
    ('calibration', 'frame', 'bias'): ('bias frame', 'bias with column structure'),
    ('calibration', 'frame', 'dark'): ('dark frame', 'dark exposure with hot pixels'),
    ('sun', 'spots', True): ('sunspots', 'Sun with sunspots'),
    ('sun', 'band', 'euv'): ('solar corona in extreme ultraviolet', 'solar active regions EUV', 'Sun '
                             'in ultraviolet light'),
    ('sun', 'band', 'halpha'): ('Sun in H-alpha', 'solar chromosphere'),
    ('sun', 'prominences', True): ('solar prominences', 'prominences on the solar limb'),
    ('coronagraph', 'companion', True): ('directly imaged exoplanet', 'faint companion next to a '
                                         'star', 'substellar companion'),
    ('asteroid', 'two_lobes', True): ('two-lobed comet nucleus', 'contact binary'),
    ('asteroid', 'two_lobes', False): ('cratered asteroid',),
    ('eclipse', 'stage', 'total'): ('total solar eclipse', 'solar corona during totality'),
    ('eclipse', 'stage', 'partial'): ('partial solar eclipse', 'crescent Sun'),
    ('eclipse', 'stage', 'annular'): ('annular eclipse', 'ring of fire eclipse'),
    ('earth', 'whole', True): ('whole Earth', 'full disk of the Earth'),
    ('earth', 'whole', False): ('limb of the Earth from orbit',),
    ('night_landscape', 'scene', 'milky way'): ('Milky Way over the horizon', 'Milky Way',
                                                'the band of our galaxy in the night sky'),
    ('night_landscape', 'scene', 'aurora'): ('aurora', 'northern lights', 'aurora borealis'),
    ('night_landscape', 'scene', 'meteor'): ('meteor', 'shooting star', 'meteor streak in the night '
                                             'sky'),
    ('night_landscape', 'scene', 'star trails'): ('star trails', 'stars trailing around the pole'),
    ('all_sky_map', 'content', 'microwave background'): ('cosmic microwave background', 'CMB '
                                                         'temperature map'),
    ('all_sky_map', 'content', 'milky way'): ('all-sky view of the Milky Way',),
}

# Kinds whose details, not class phrases, are what people ask for.
SPECIFIC = {'artifact', 'spectrum', 'plot', 'calibration', 'planet', 'sun', 'night_landscape',
            'eclipse', 'all_sky_map', 'star_field'}

# What such a scene never shows: used rarely, in negations.
ABSENT = {
    'spiral': ('central bar', 'tidal tails'), 'elliptical': ('spiral arms', 'dust', 'star formation'),
    'lenticular': ('spiral arms', 'star-forming knots'), 'irregular': ('spiral arms', 'bulge'),
    'globular_cluster': ('nebulosity',), 'open_cluster': ('galaxies',), 'star_field': ('nebulosity',),
    'deep_field': ('large galaxy',), 'blank_sky': ('sources',), 'quasar': ('spiral arms',),
}
MOSAIC = ('mosaic with gaps', 'mosaic of detectors', 'image with black gaps', 'mosaic')


def names(kind: str) -> tuple[str, ...]:
    """Return the plain class phrases of a kind.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    try:
        return NAMES[kind]
    except KeyError:
        raise ValueError(f'unknown kind {kind!r}; choose from {", ".join(NAMES)}') from None


def details(kind: str, attributes: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the groups of more precise phrases that are true for these attributes."""
    return [DETAILS[key] for name, value in attributes.items()
            if (key := (kind, name, value)) in DETAILS]


def caption(kind: str, attributes: dict[str, Any], rng: np.random.Generator) -> str:
    """Compose one random caption of a scene.

    Parameters
    ----------
    kind : str
        One of `export.sky.KINDS`.
    attributes : dict
        Attributes of the scene; a phrase about a detail is used only if the detail is there.
    rng : numpy.random.Generator

    Returns
    -------
    str
        Never contains a phrase of `HELD_OUT`.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    def pick(choices):
        return choices[int(rng.integers(len(choices)))]

    general, precise = names(kind), details(kind, attributes)
    if rng.random() < 0.04 and kind in CATALOGUE:
        return pick(CATALOGUE[kind])
    precisely = precise and rng.random() < (0.8 if kind in SPECIFIC else 0.45)
    phrase = pick(pick(precise)) if precisely else pick(general)
    if not precisely and precise and rng.random() < 0.12:
        phrase = f'{phrase}, {pick(pick(precise))}'
    elif kind in ABSENT and rng.random() < 0.03:
        phrase = f'{phrase}, no {pick(ABSENT[kind])}'
    look = STYLES[attributes.get('style', 'figure')]
    draw = rng.random()
    if draw < 0.13 and look:
        adjective = pick(look)
        return f'{adjective} image of {phrase}' if rng.random() < 0.5 else f'{phrase}, {adjective}'
    if draw < 0.17 and attributes.get('mosaic'):
        return f'{phrase}, {pick(MOSAIC)}'
    if draw < 0.6:
        return pick(TEMPLATES).format(phrase)
    return phrase
