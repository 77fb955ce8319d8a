# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the MAST portal answers: rows that match a query, products, names; without any HTTP.
"""

import re

from tests.loopback.archive import CAOM_COLUMNS

__all__ = ['columns_configuration', 'description', 'query', 'resolve']

FOOTPRINT = 0.02  # deg, radius of a field of view: cones find rows they touch
PRODUCT_COLUMNS = {
    'obsID': 'string', 'obs_collection': 'string', 'dataproduct_type': 'string',
    'obs_id': 'string', 'description': 'string', 'type': 'string', 'dataURI': 'string',
    'productType': 'string', 'productGroupDescription': 'string',
    'productSubGroupDescription': 'string', 'productDocumentationURL': 'string',
    'project': 'string', 'prvversion': 'string', 'productFilename': 'string', 'size': 'int',
    'parent_obsid': 'string', 'dataRights': 'string', 'calib_level': 'int',
}


def columns_configuration():
    """Return the description of the columns by which a client builds its filters."""
    return {name: {'text': name, 'vot.datatype': kind, 'separator': separator}
            for name, (_, kind, separator) in CAOM_COLUMNS.items()}


def query(archive, server, request):
    """
    Answer a request of the portal.

    Parameters
    ----------
    archive : `~tests.loopback.archive.Archive`
        Where to look.
    server : str
        Address before the ``/`` of legacy preview URLs.
    request : dict
        With ``service``, ``params``, ``pagesize`` and ``page``.

    Returns
    -------
    dict
        ``status``, ``fields``, ``data`` and ``paging``, to be sent as JSON.

    Raises
    ------
    ValueError, KeyError
        If there is no such service, column or parameter.
    """
    types, rows = _select(archive, request['service'], request.get('params', {}))
    size, page = int(request.get('pagesize', 50000)), int(request.get('page', 1))
    part = rows[(page - 1) * size:page * size]
    if 'jpegURL' in types:
        part = [row | {'jpegURL': server + row['jpegURL']}
                if (row['jpegURL'] or '').startswith('/') else row for row in part]
    return {
        'status': 'COMPLETE', 'msg': '', 'data': part,
        'fields': [{'name': name, 'type': kind} for name, kind in types.items()],
        'paging': {'page': page, 'pageSize': size, 'pagesFiltered': max(1, -(-len(rows) // size)),
                   'rows': len(part), 'rowsFiltered': len(rows), 'rowsTotal': len(rows)},
    }


def description(request):
    """Say in one line what a request asks for."""
    parameters = request.get('params', {})
    page = ('count' if parameters.get('columns', '*').startswith('COUNT')
            else f'page {request.get("page", 1)}')
    filters = [f'{entry["paramName"]}={entry.get("freeText") or entry["values"]}'
               for entry in parameters.get('filters', ())]
    return ' '.join([request['service'], page, *filters])


def resolve(archive, names):
    """Answer as the name resolver does."""
    found = []
    for name in names:
        position = archive.resolve(name)
        if position:
            found.append({'searchString': name.lower(), 'resolver': 'SIMBAD', 'cached': True,
                          'canonicalName': name, 'ra': position[0], 'decl': position[1]})
    return {'resolvedCoordinate': found, 'status': ''}


def _select(archive, service, parameters):
    """Return (column types, rows)."""
    if service == 'Mast.Caom.Products':
        wanted = {obsid.strip() for obsid in str(parameters['obsid']).split(',')}
        return PRODUCT_COLUMNS, [product for row in archive.rows if row['obsid'] in wanted
                                 for product in _products(archive, row)]
    if service == 'Mast.Caom.Cone':
        position = [float(parameters[name]) for name in ('ra', 'dec', 'radius')]
    elif service == 'Mast.Caom.Filtered.Position':
        position = [float(x) for x in parameters['position'].split(',')]
    elif service == 'Mast.Caom.Filtered':
        position = None
    else:
        raise ValueError(f'Invalid request: unknown service {service}')

    rows, types = archive.rows, {name: kind[0] for name, kind in CAOM_COLUMNS.items()}
    if position:
        types['distance'] = 'float'
        ra, dec, radius = position
        distances = archive.distances(ra, dec).tolist()
        rows = [row | {'distance': max(0.0, distance - FOOTPRINT) * 3600}
                for row, distance in zip(rows, distances, strict=True)
                if distance <= radius + FOOTPRINT]  # false where there is no position
    for entry in parameters.get('filters', ()):
        rows = [row for row in rows if _matches(row, entry)]
    if parameters.get('columns', '*').startswith('COUNT'):
        return {'Column1': 'string'}, [{'Column1': len(rows)}]
    return types, rows


def _matches(row, entry):
    """Tell whether a row passes one entry of a filter set; text compares without regard to case."""
    name = {name.lower(): name for name in CAOM_COLUMNS}.get(entry['paramName'].lower())
    if name is None:
        raise ValueError(f'Invalid column name {entry["paramName"]}')
    value = row[name]
    if value is None:
        return False
    for wanted in entry['values']:
        if isinstance(wanted, dict) and float(wanted['min']) <= value <= float(wanted['max']):
            return True
    separator = CAOM_COLUMNS[name][2]
    parts = [str(value).lower()]
    if separator:
        parts += [part.strip() for part in parts[0].split(separator)]
    if any(str(wanted).lower() in parts for wanted in entry['values']):
        return True
    # One wildcarded value a filter, as the protocol has room for no more.
    pattern = '.*'.join(re.escape(part) for part in entry.get('freeText', '').lower().split('%'))
    return bool(pattern) and any(re.fullmatch(pattern, part) for part in parts)


def _products(archive, row):
    """Return the products of an observation: its data and, where it has one, its preview."""
    given = archive.products.get(row['obsid'])
    if given is None:
        given = [{'dataURI': url, 'productType': kind, 'description': text}
                 for url, kind, text in ((row['dataURL'], 'SCIENCE', 'Rectified 2D image'),
                                         (row['jpegURL'], 'PREVIEW', 'Preview-Full'))
                 if url and url.startswith('mast:')]
    for product in given:
        yield dict.fromkeys(PRODUCT_COLUMNS) | {
            'obsID': row['obsid'], 'obs_collection': row['obs_collection'],
            'dataproduct_type': row['dataproduct_type'], 'obs_id': row['obs_id'], 'type': 'S',
            'productGroupDescription': 'Minimum Recommended Products',
            'productSubGroupDescription': 'I2D', 'project': row['project'],
            'productFilename': product['dataURI'].rsplit('/', 1)[-1], 'size': 1000,
            'parent_obsid': row['obsid'], 'dataRights': row['dataRights'],
            'calib_level': row['calib_level'],
        } | product
