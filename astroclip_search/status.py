# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What becomes of a row: its status, and the reason for it.

A reason is a code, which the program reads, and a sentence, which people read. All sentences are
here, and nothing else in the package looks at one.
"""

import re
from typing import Any, NamedTuple

__all__ = ['DENIED', 'ERROR', 'NO_IMAGE', 'OK', 'REASONS', 'SKIPPED', 'STATUSES', 'Reason',
           'has_note', 'reason', 'without_notes']

OK, SKIPPED, NO_IMAGE, DENIED, ERROR = STATUSES = 'OK', 'SKIPPED', 'NO_IMAGE', 'DENIED', 'ERROR'

REASONS = {
    # Nothing that could be embedded.
    'no_image_named': (NO_IMAGE, 'the row names no image'),
    'no_address': (ERROR, 'not an http or https address'),
    'no_address_after_redirect': (ERROR, 'not an http or https address (redirected to {target!r})'),
    'address_too_long': (ERROR, 'a name of {n} characters; at most {limit} are possible'),
    'address_invalid': (ERROR, 'not a valid address'),
    'file_without_folder': (ERROR, 'a file name: give image_dir, the folder it is in'),
    'path_without_folder': (ERROR, ('a path on this computer: to allow it give image_column, the '
                                   'name of its column, or image_dir, a folder above it')),
    'file_name_invalid': (ERROR, 'not a valid file name'),
    'file_outside': (ERROR, 'the name leads out of image_dir'),
    'not_ranked_here': (ERROR, ('a file of an earlier ranking that this session has not read: rank '
                               'its folder again, or give image_dir')),
    'spectrum': (SKIPPED, 'not an image: a spectrum'),
    'spectrum_named': (SKIPPED, 'not an image: {column} names a spectrum'),
    'other_kind': (SKIPPED, 'not an image: {column} is {kind!a}'),
    'archive_fault': (ERROR, 'the archive says {said!a}'),
    'no_metadata': (SKIPPED, 'the row has no metadata'),
    'not_in_memory': (NO_IMAGE, 'the array is no longer in memory'),
    # Limits of the call.
    'too_many_images': (SKIPPED, 'more than {limit} images: call again to go on'),
    'query_timeout': (SKIPPED, ('the query took longer than {seconds:g} s (conf.query_timeout): '
                               'call again to go on')),
    'stopped': (SKIPPED, 'stopped: call again to go on'),
    'interrupted': (ERROR, 'interrupted'),
    'too_many_bytes': (SKIPPED, 'larger than {limit} bytes (conf.max_bytes)'),
    'body_too_large': (ERROR, 'larger than {limit} bytes (conf.max_bytes)'),
    'file_too_large': (ERROR, 'file is larger than {limit} bytes (conf.max_bytes)'),
    'link_too_large': (SKIPPED, 'a file of {n} bytes, the limit is {limit} (conf.max_bytes)'),
    'too_many_pixels': (ERROR, ('image of {width} x {height} pixels is larger than {limit} '
                               '(conf.max_pixels)')),
    'row_timeout': (ERROR, 'took longer than {seconds:g} s (conf.row_timeout)'),
    # Servers.
    'http': (ERROR, 'HTTP {code}'),
    'http_again': (ERROR, 'HTTP {code}'),
    'http_pause': (ERROR, 'HTTP {code}'),
    'http_denied': (DENIED, 'HTTP {code}: access denied'),
    'http_no_content': (NO_IMAGE, 'HTTP 204: the server has no image'),
    'http_wait': (ERROR, ('{after}: the server asks to wait {seconds:.0f} s, longer than '
                         'conf.row_timeout{then}')),
    'given_up': (ERROR, 'given up: the server did not answer {n} times in a row'),
    'no_answer': (ERROR, 'no answer in time'),
    'no_connection': (ERROR, 'no connection in time'),
    'unreachable': (ERROR, 'the server cannot be reached'),
    'unknown_host': (ERROR, 'the server cannot be reached (unknown host)'),
    'broken': (ERROR, 'the connection was broken'),
    'not_secure': (ERROR, 'no secure connection, is its certificate valid?'),
    'invalid_request': (ERROR, 'invalid request ({error})'),
    'other_host': (ERROR, 'redirected to another host ({target!r})'),
    'many_redirects': (ERROR, 'more than {limit} redirects'),
    'private': (ERROR, ('{host} is a private address: add {name!r} to conf.private_hosts if it is '
                       'yours')),
    'private_name': (ERROR, ('{host} has the private address {address}: add {name!r} to '
                            'conf.private_hosts if it is yours')),
    'damaged_answer': (ERROR, 'damaged compressed answer ({error})'),
    # DataLink.
    'datalink_unreadable': (ERROR, 'the DataLink document cannot be read ({error})'),
    'datalink_says': (ERROR, 'the DataLink service says: {said}'),
    'datalink_fails': (ERROR, 'the DataLink service reports an error'),
    'datalink_too_large': (ERROR, 'the DataLink document is larger than {limit} bytes'),
    'datalink_no_votable': (ERROR, 'the DataLink document is no VOTable'),
    'datalink_elsewhere': (ERROR, 'the DataLink document has its rows elsewhere'),
    'datalink_columns': (ERROR, 'the DataLink document has columns of excessive size'),
    'datalink_circle': (NO_IMAGE, 'the DataLink documents lead in circles'),
    'datalink_no_image': (NO_IMAGE, 'no link of the row leads to an image'),
    'datalink_fault': (ERROR, '{said}'),
    'datalink_denied': (DENIED, 'the link is not open to the public'),
    # Object stores.
    'needs_package': (ERROR, '{protocol}:// needs a further package ({error})'),
    'store_denied': (DENIED, 'access denied ({error})'),
    'file_unreadable': (ERROR, 'cannot read the file ({error})'),
    # Pictures.
    'empty_file': (ERROR, 'empty file'),
    'web_page': (ERROR, 'a web page or a message instead of an image'),
    'unknown_format': (ERROR, 'neither a FITS file nor a JPEG, PNG, TIFF or other known image'),
    'other_format': (ERROR, '{name} is not read: convert the image to PNG, TIFF or FITS'),
    'tiff_unread': (ERROR, ('TIFF with {n} x {bits} bits per pixel, compression {compression} and '
                           'photometric interpretation {photometric} is not read: convert the '
                           'image to PNG or FITS')),
    'decoding_late': (ERROR, ('decoding took longer than {seconds:g} s '
                             '(conf.decode_timeout)')),
    'decoding_memory': (ERROR, ('decoding would take more than {limit} bytes of memory '
                               '(conf.max_pixels)')),
    'decoding_ended': (ERROR, 'damaged image (its decoder crashed)'),
    'damaged_image': (ERROR, 'damaged image ({error})'),
    'damaged_compressed': (ERROR, 'damaged compressed file ({error})'),
    'packed_otherwise': (ERROR, 'packed with {name}, which is not read: unpack it first'),
    'damaged_asdf': (ERROR, 'damaged ASDF file ({error})'),
    'needs_asdf': (ERROR, 'compressed with lz4: pip install "astroclip-search[asdf]"'),
    'no_asdf_image': (SKIPPED, 'no image in the ASDF file'),
    'archive_without_image': (ERROR, 'the zip archive holds no image that is read'),
    'damaged_fits': (ERROR, 'damaged FITS file ({error})'),
    'no_fits_image': (SKIPPED, 'no image in the FITS file'),
    'not_fits': (ERROR, 'not a FITS image'),
    'no_such_plane': (ERROR, 'there is no plane {plane}: the image has {n}, counted from 0'),
    'colour_without_pixels': (NO_IMAGE, 'three images in colour have no numbers of their own'),
    'other_place': (ERROR, 'the place is not on the first image of the file'),
    'no_pixels': (NO_IMAGE, 'no pixels'),
    'no_finite_pixels': (NO_IMAGE, 'no finite pixels'),
    'one_value': (NO_IMAGE, 'all pixels have the same value'),
    'blank': (NO_IMAGE, 'the image is blank'),
    'array_shape': (NO_IMAGE, ('array of shape {shape} and type {dtype} is neither (ny, nx), '
                              'nor a cube (n, ny, nx), nor colours (ny, nx, 3) in uint8 or 0..1')),
    'not_an_image': (NO_IMAGE, 'cannot make an image of a {kind}'),
    'unexpected': (ERROR, '{error}'),
    'planes_apart': (ERROR, 'the three images do not overlap'),
    'planes_differ': (ERROR, 'the three images differ in shape, and have no WCS'),
    'bad_wcs': (ERROR, 'the WCS cannot be used ({error})'),
    'by_outline': (OK, ('position by the outline of the row: the picture does not say which side '
                        'is on top')),
    'no_wcs': (NO_IMAGE, 'the image does not say where on the sky it is'),
    'no_numbers': (ERROR, 'the model gives no numbers for this image'),
    # Examples.
    'example_without_image': (NO_IMAGE, 'an example has no image: {why}'),
    'example_unusable': (ERROR, 'an example cannot be used: {why}'),
    # Notes on rows that are ranked all the same, and what an earlier table says.
    'colour_of': (OK, 'colour of {filters}'),
    'no_colour': (OK, 'no colour: {why}'),
    'sky_context': (OK, 'sky context from {hips}, not the observation'),
    'before': (ERROR, '{said}'),
    'twin': (OK, 'nearly the same picture as rank {rank}'),
    'copy': (OK, 'the same picture as rank {rank}'),
    'liked': (OK, 'marked as liked'),
    'disliked': (OK, 'marked as disliked'),
    'by_words': (OK, 'ranked by its words: the picture alone is no better than others'),
    'lost': (OK, 'its embedding is not kept any more: rank again'),
}
"""
Status and sentence by code; the parts in braces are filled in.
"""


class Reason(NamedTuple):
    """
    Why a row has its status, or what else there is to say of it.

    Attributes
    ----------
    code : str
        A key of ``REASONS``.
    status : str
        One of ``STATUSES``.
    sentence : str
        For people; without a full stop.
    """

    code: str
    status: str
    sentence: str


def reason(code: str, /, *, status: str | None = None, **parts: Any) -> Reason:
    """
    A reason with its sentence.

    Parameters
    ----------
    code : str
        A key of ``REASONS``.
    status : str, optional
        Where it is not the usual one, as for what an archive says of a row itself.
    **parts
        What completes the sentence.

    Returns
    -------
    Reason
        Complete.

    Examples
    --------
    >>> from astroclip_search.status import reason
    >>> reason('http_denied', code=403)
    Reason(code='http_denied', status='DENIED', sentence='HTTP 403: access denied')
    """
    usual, sentence = REASONS[code]
    return Reason(code, status or usual, sentence.format(**parts))


def has_note(message: str, code: str) -> bool:
    """
    Say whether a ``clip_message``, which may come from a file, has a note.

    Parameters
    ----------
    message : str
        The message of a row.
    code : str
        A key of ``REASONS``.

    Returns
    -------
    bool
        True if the note is one of its parts.
    """
    return bool(message) and without_notes(message, code) != message


def without_notes(message: str, *codes: str) -> str:
    """
    A ``clip_message``, which may come from a file, without some of its notes.
    """
    forms = [re.sub(r'\\\{.*?\\\}', '.*', re.escape(REASONS[code][1])) for code in codes]
    return '; '.join(part for part in message.split('; ')
                     if not any(re.fullmatch(form, part) for form in forms))
