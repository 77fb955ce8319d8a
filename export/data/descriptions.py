"""
What a text says that can be seen: descriptive sentences, and objects of known class.
"""

import re
import tomllib
from pathlib import Path

__all__ = ['KINDS_OF_LABELS', 'OBJECTS', 'PHRASES', 'WORDS_OF_LABELS', 'object_key',
           'object_kind', 'sentences']

_TABLE = tomllib.loads((Path(__file__).parents[1] / 'configs' / 'labels.toml').read_text('utf-8'))
#: Label -> plain phrases, where its own words are not what a person would type.
PHRASES = {label: tuple(phrases) for label, phrases in _TABLE['phrases'].items()}
#: Label -> kind of the synthetic sky that the picture surely shows.
KINDS_OF_LABELS = _TABLE['kinds']
#: Label -> kind whose words fit the target, which the picture need not show.
WORDS_OF_LABELS = _TABLE['words']
#: Name of an object, lower case -> kind.
OBJECTS = {name.lower(): kind for kind, names in _TABLE['objects'].items() for name in names}

_CATALOGUE = re.compile(
    r'\b(?:(messier|m|ngc|ic|abell|arp|hh|sn)[\s-]?(\d{1,5}[a-z]?)|'
    r'(barnard|sh2|hd|lmc|smc)[\s-]?(\d{1,6}))\b', re.IGNORECASE)
_NAMES = re.compile(
    r'\b(' + '|'.join(re.escape(name) for name in sorted(OBJECTS, key=len, reverse=True))
    + r')\b', re.IGNORECASE)

_LEAD = re.compile(r"^\s*(Today's Picture:.*?Explanation:|Explanation:)\s*", re.DOTALL)
_BOILERPLATE = re.compile(
    r'(copyright|archive file|astronomy picture|brought to you|click|cursor|download|credit:|'
    r'press release|tomorrow|today|https?:|www\.|gallery|sliding|\?$|this link)', re.IGNORECASE)
#: Words by which a sentence points at the picture.
_POINTS = re.compile(
    r'\b(above|pictured?|image[ds]?|photo\w*|portrait|view(ed)?|visible|seen|shows?|shown|appears?|'
    r'captured|snapshot|panorama|mosaic|close-up|featured|left|right|foreground|background|'
    r'cent(er|re)|top|bottom|frame|scene)\b', re.IGNORECASE)
#: Words for what can be seen.
_LOOKS = re.compile(
    r'\b(red(dish)?|blue|bluish|green(ish)?|yellow(ish)?|orange|pink|white|dark|bright|faint|dim|'
    r'colou?rs?|colou?rful|glow\w*|dust\w*|gas\w*|arms?|bar|bulge|disk|ring\w*|shells?|lobes?|'
    r'filament\w*|tails?|tendrils?|knots?|jets?|arcs?|spikes?|halo|core|nucleus|spiral|elliptical|'
    r'edge-on|face-on|clusters?|crater\w*|bands?|clouds?|nebula\w*|galax\w+|stars?|pillars?|'
    r'bubbles?|streaks?|spots?|loops?|plumes?|shadow\w*|crescent|horizon|round|elongated|wispy|'
    r'tangled|symmetric\w*|swirl\w*|surface|rocks?|ridges?|dunes?)\b', re.IGNORECASE)
#: Words for what cannot: history, numbers, opinion.
_TOLD = re.compile(
    r'\b(1[5-9]\d\d|20\d\d|light[- ]years?|light[- ]minutes?|years? (ago|old|from)|million|billion|'
    r'discover\w*|believ\w+|suspect\w*|theor\w+|named|announced|launched|mission|predicted|'
    r'astronomers|scientists|thought|possibl\w+|might|would|could|researchers?|kilomet\w+|'
    r'estimated|redshift|telescopes?|universe)\b', re.IGNORECASE)
_MONTHS = ('January|February|March|April|May|June|July|August|September|October|November|December')
_TRIMS = (
    re.compile(rf',?\s*\b((taken|recorded|made|released|captured)\s+)?(on|in|from|of|during|since|'
               rf'late|early|last)\s+((late|early|mid)[- ])?({_MONTHS})'
               rf'(\s+\d{{1,2}}(st|nd|rd|th)?\b)?(,?\s+\d{{4}})?,?', re.IGNORECASE),
    re.compile(r',?\s*\b(taken|recorded|released|made)\s+(last|earlier this|this)\s+\w+,?',
               re.IGNORECASE),
    re.compile(r'^(Pictured|Shown|Featured|Seen|Visible)( here| above| in the above image)?,\s*',
               re.IGNORECASE),
    re.compile(r'^(In|On)\s+(the|this|today.s)\s+(above\s+)?(\w+\s+)?(picture|image|photo\w*|'
               r'view|mosaic|snapshot),?\s*', re.IGNORECASE),
    re.compile(r'^(The|This)\s+(above\s+)?(\w+\s+)?(picture|image|photo\w*|view)\s+(clearly\s+)?'
               r'(shows?|reveals?|features?|depicts?|captures?)\s+', re.IGNORECASE),
    re.compile(r'\s*\b(pictured|shown|seen|visible|imaged)\s+above\b', re.IGNORECASE),
)


def sentences(text, *, limit=4):
    """
    Choose the sentences of a text that describe a picture.

    A sentence is kept for words that point at the picture and words for what can
    be seen, and dropped for history, distances and opinion. Dates and phrases
    like "the above image shows" are cut out.

    Parameters
    ----------
    text : str
        Explanation of a picture.
    limit : int, optional
        Most sentences returned.

    Returns
    -------
    chosen : list of str
        In the order of the text.
    """
    text = ' '.join(_LEAD.sub('', text).split())
    scored = []
    for place, part in enumerate(re.split(r'(?<=[.?!])\s+(?=[A-Z])', text)):
        if not 5 <= len(part.split()) <= 45 or _BOILERPLATE.search(part):
            continue
        trimmed = _trim(part)
        score = (2 * bool(_POINTS.search(part)) + min(4, len(_LOOKS.findall(trimmed)))
                 - 1.5 * len(_TOLD.findall(trimmed)))
        if score >= 2 and len(trimmed.split()) >= 3:
            scored.append((score, -place, trimmed))
    best = sorted(sorted(scored, reverse=True)[:limit], key=lambda row: -row[1])
    return [trimmed for *_, trimmed in best]


def _trim(sentence):
    for pattern in _TRIMS:
        sentence = pattern.sub('', sentence)
    sentence = ' '.join(sentence.split()).strip(' ,;')
    return sentence[:1].upper() + sentence[1:]


def object_key(title):
    """
    Return the catalogue entry or common name in a title.

    Parameters
    ----------
    title : str
        Title of a picture or name of a target.

    Returns
    -------
    key : str
        Like ``'m51'``; empty if none is known. Equal keys are one object, whatever
        the source.
    """
    found = _CATALOGUE.search(title)
    if found:
        catalogue, number = (found[1] or found[3]).lower(), (found[2] or found[4]).lower()
        return ('m' if catalogue == 'messier' else catalogue) + (number.lstrip('0') or '0')
    found = _NAMES.search(title)
    return found[1].lower() if found else ''


def object_kind(title):
    """
    Return the kind of the synthetic sky that a named object belongs to.

    Parameters
    ----------
    title : str
        Title of a picture or name of a target.

    Returns
    -------
    kind : str
        Empty if the title names no object of known class, or several of different classes.
    """
    names = {found[1].lower() for found in _NAMES.finditer(title)}
    for found in _CATALOGUE.finditer(title):
        catalogue, number = (found[1] or found[3]).lower(), (found[2] or found[4]).lower()
        number = number.lstrip('0')
        names |= {f'{catalogue} {number}', f"m{number}" if catalogue in ('m', 'messier') else ''}
    kinds = {OBJECTS[name] for name in names if name in OBJECTS}
    return kinds.pop() if len(kinds) == 1 else ''
