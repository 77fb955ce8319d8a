# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A small data centre of the Virtual Observatory over real HTTP on the loopback interface.

It answers SIA2, SIA1, TAP (sync; any query selects all of ``ivoa.obscore``), DataLink (GET, and
POST of many IDs) and SODA, as the standards of the IVOA say, with what goes wrong in practice: an
answer cut short, errors as VOTables with status 200, IDs that are lost, answers in another order.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape, quoteattr

import numpy as np

__all__ = ['DATALINK', 'Dataset', 'Vo', 'votable']

DATALINK = 'application/x-votable+xml;content=datalink'

TEXT = 'datatype="char" arraysize="*"'

# name -> attributes of a FIELD; all others are text without a UCD
FIELDS = {
    's_ra': 'datatype="double" unit="deg" ucd="pos.eq.ra;meta.main"',
    's_dec': 'datatype="double" unit="deg" ucd="pos.eq.dec;meta.main"',
    's_fov': 'datatype="double" unit="deg"',
    'ra': 'datatype="double" unit="deg" ucd="POS_EQ_RA_MAIN"',
    'dec': 'datatype="double" unit="deg" ucd="POS_EQ_DEC_MAIN"',
    'access_estsize': 'datatype="long" unit="kbyte"',
    'content_length': 'datatype="long" unit="byte"',
    'link_authorized': 'datatype="boolean"',
    'accref': 'datatype="char" arraysize="*" ucd="VOX:Image_AccessReference"',
    'form': 'datatype="char" arraysize="*" ucd="VOX:Image_Format"',
    'name': 'datatype="char" arraysize="*" ucd="VOX:Image_Title"',
}


@dataclass
class Dataset:
    """
    One image, and what the data centre says of it.

    Attributes
    ----------
    name : str
        Identifies it.
    title : str
        In words.
    ra, dec, fov : float
        Where it is, in degrees.
    files : dict
        Content by suffix, such as ``{'jpg': b'...', 'fits': b'...'}``.
    access : str
        What its ``access_url`` leads to: ``'datalink'`` or a suffix.
    links : list of dict or None
        Rows of its DataLink document, by default a plot, a preview, the data and a cutout.
    changes : dict
        Of its ObsCore row.
    """

    name: str
    title: str = ''
    ra: float = 10.0
    dec: float = -5.0
    fov: float = 0.05
    files: dict = field(default_factory=dict)
    access: str = 'datalink'
    links: list | None = None
    changes: dict = field(default_factory=dict)

    @property
    def did(self):
        """Return the publisher's identifier."""
        return f'ivo://vo.example/~?{self.name}'


class Vo:
    """
    A running server; also a context manager, which stops it.

    Parameters
    ----------
    datasets : list of Dataset
        What it has.
    describes_links : bool
        Whether results describe the DataLink service.
    max_ids : int, optional
        IDs that a DataLink request may have; those beyond are left out of the answer.
    faults : dict, optional
        Answers in place of the true ones: ``(status, headers, body)`` by path, or by method and
        path such as ``'POST /links'``. May be changed while running.

    Attributes
    ----------
    url : str
        Address without a trailing slash.
    log : list of tuple
        ``(method, path, parameters)`` of each request.
    agents : set of str
        User agents that have asked.
    """

    def __init__(self, datasets, *, describes_links=True, max_ids=None, faults=None):
        self.datasets = list(datasets)
        self.describes_links = describes_links
        self.max_ids = max_ids
        self.faults = dict(faults or {})
        self.log = []
        self.agents = set()
        self._server = _Server(('127.0.0.1', 0), _Handler)
        self._server.vo = self
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @classmethod
    def of_archive(cls, archive, **options):
        """Make a data centre of the images of an `~tests.loopback.archive.Archive`."""
        names = ('target_name', 'target_classification', 'dataproduct_type')
        return cls([
            Dataset(row['obs_id'], row['obs_title'] or '', row['s_ra'], row['s_dec'],
                    files={'jpg': archive.read(row['jpegURL'])},
                    changes={name: row[name] or '' for name in names})
            for row in archive.rows if row['jpegURL'] in archive.files], **options)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Stop and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def requests(self):
        """Return how often each method and path was asked, such as ``POST /links``."""
        return Counter(f'{method} {path}' for method, path, _ in list(self.log))

    def file(self, dataset, suffix):
        """Return the address of a file."""
        return f'{self.url}/files/{quote(dataset.name)}.{suffix}'

    def obscore(self, dataset):
        """Return the ObsCore row of a dataset."""
        linked = dataset.access == 'datalink'
        return {
            'obs_publisher_did': dataset.did, 'dataproduct_type': 'image',
            'obs_collection': 'VO', 'target_name': dataset.name, 'obs_title': dataset.title,
            's_ra': dataset.ra, 's_dec': dataset.dec, 's_fov': dataset.fov,
            'access_url': (f'{self.url}/links?ID={quote(dataset.did, safe="")}' if linked
                           else self.file(dataset, dataset.access)),
            'access_format': DATALINK if linked else TYPES[dataset.access],
            'access_estsize': 10} | dataset.changes

    def sia1(self, dataset):
        """Return the SIA1 rows of a dataset, one for each of its files."""
        return [{'name': dataset.title, 'ra': dataset.ra, 'dec': dataset.dec,
                 'form': TYPES[suffix], 'accref': self.file(dataset, suffix)}
                for suffix in dataset.files]

    def links(self, identifier):
        """Return the DataLink rows of an ID."""
        dataset = next((item for item in self.datasets if item.did == identifier), None)
        if dataset is None:
            return [{'ID': identifier, 'semantics': '#this',
                     'error_message': f'NotFoundFault: {identifier} is not known'}]
        rows = dataset.links
        if rows is None:
            rows = [{'semantics': '#preview-plot', 'content_type': 'image/png',
                     'access_url': f'{self.url}/files/plot.png'},
                    {'semantics': '#this', 'content_type': 'image/fits',
                     'access_url': self.file(dataset, 'fits'), 'content_length': 5760},
                    {'semantics': '#cutout', 'service_def': 'soda'}]
            if 'jpg' in dataset.files:
                rows.insert(1, {'semantics': '#preview', 'content_type': 'image/jpeg',
                                'access_url': self.file(dataset, 'jpg')})
        return [{'ID': identifier} | row for row in rows]

    def near(self, ra, dec, radius):
        """Return the datasets within a radius, all in degrees."""
        def distance(item):
            east = (item.ra - ra) * np.cos(np.radians(dec))
            return np.hypot(east, item.dec - dec)

        return [item for item in self.datasets if distance(item) <= radius + item.fov / 2]


TYPES = {'jpg': 'image/jpeg', 'png': 'image/png', 'fits': 'image/fits', 'txt': 'text/plain'}


def votable(rows, columns, *, status='OK', message='', extra=''):
    """Return a VOTable: text by column for each row; ``extra`` is XML after the table."""
    fields = ''.join(
        f'<FIELD ID="{name}" name="{name}" {FIELDS.get(name, TEXT)}/>' for name in columns)
    body = ''.join('<TR>' + ''.join(
        f'<TD>{escape(str(row.get(name, "")))}</TD>' for name in columns) + '</TR>'
        for row in rows)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{status}">{escape(message)}'
        f'</INFO>' + (f'<TABLE>{fields}<DATA><TABLEDATA>{body}</TABLEDATA></DATA></TABLE>'
                      if columns else '')
        + f'</RESOURCE>{extra}</VOTABLE>').encode()


def service(name, standard, address, inputs):
    """Return a service descriptor."""
    parameters = ''.join(f'<PARAM {attributes}/>' for attributes in inputs)
    return (
        f'<RESOURCE type="meta" utype="adhoc:service" ID="{name}">'
        f'<PARAM name="standardID" datatype="char" arraysize="*" value="{standard}"/>'
        f'<PARAM name="accessURL" datatype="char" arraysize="*" value={quoteattr(address)}/>'
        f'<GROUP name="inputParams">{parameters}</GROUP></RESOURCE>')


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = 1 << 16  # header and body in one packet, else a delayed ACK adds 40 ms
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass  # the log is a list

    def do_GET(self):
        url = urlsplit(self.path)
        self.answer(url.path, parse_qs(url.query))

    def do_POST(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        kind = self.headers.get('Content-Type', '')
        if kind.startswith('multipart/'):
            head = f'Content-Type: {kind}\r\n\r\n'.encode()
            parts = BytesParser().parsebytes(head + body).get_payload()
            parameters = {part.get_param('name', header='content-disposition'):
                          [part.get_payload(decode=True).decode()] for part in parts}
        else:
            parameters = parse_qs(body.decode())
        self.answer(url.path, parse_qs(url.query) | parameters)

    def answer(self, path, parameters):
        vo = self.server.vo
        vo.log.append((self.command, path, parameters))
        vo.agents.add(self.headers.get('User-Agent', ''))
        fault = vo.faults.get(f'{self.command} {path}') or vo.faults.get(path)
        if fault:
            self.send(*fault)
            return
        name = path.strip('/').replace('/', '_').split('.')[0]
        action = self.send_file if name.startswith('files_') else getattr(
            self, f'answer_{name}', None)
        if action is None:
            self.send(404, {'Content-Type': 'text/plain'}, b'nothing here')
        else:
            action(parameters if action != self.send_file else path)

    def send(self, status, headers, body):
        self.send_response(status)
        for name, value in ({'Content-Length': str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_table(self, *args, status_code=200, **options):
        self.send(status_code, {'Content-Type': 'application/x-votable+xml'},
                  votable(*args, **options))

    def send_file(self, path):
        name, _, suffix = path.removeprefix('/files/').rpartition('.')
        content = next((item.files.get(suffix) for item in self.server.vo.datasets
                        if quote(item.name) == name), None)
        if content is None:
            self.send(404, {'Content-Type': 'text/plain'}, b'no such file')
        else:
            self.send(200, {'Content-Type': TYPES[suffix]}, content)

    def send_obscore(self, datasets, parameters):
        vo = self.server.vo
        limit = int(parameters.get('MAXREC', [10000])[0])
        rows = [vo.obscore(item) for item in datasets]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        extra = service('links', 'ivo://ivoa.net/std/DataLink#links-1.1', f'{vo.url}/links', [
            'name="ID" datatype="char" arraysize="*" value="" ref="obs_publisher_did"'])
        self.send_table(rows[:limit], columns or ['access_url'],
                        status='OVERFLOW' if len(rows) > limit else 'OK',
                        extra=extra if vo.describes_links else '')

    def answer_sia2_query(self, parameters):
        vo = self.server.vo
        datasets = vo.datasets
        for region in parameters.get('POS', []):
            shape, *values = region.split()
            if shape != 'CIRCLE':
                self.send_table([], [], status='ERROR', message=f'UsageFault: no {shape}',
                                status_code=400)
                return
            datasets = vo.near(*map(float, values))
        self.send_obscore(datasets, parameters)

    def answer_sia2_capabilities(self, parameters):
        self.send(200, {'Content-Type': 'text/xml'}, (
            '<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0" '
            'xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            '<capability standardID="ivo://ivoa.net/std/SIA#query-2.0">'
            '<interface xsi:type="vs:ParamHTTP" role="std" version="2.0">'
            f'<accessURL use="base">{self.server.vo.url}/sia2/query</accessURL>'
            '</interface></capability></vosi:capabilities>').encode())

    def answer_sia1(self, parameters):
        vo = self.server.vo
        try:
            ra, dec = map(float, parameters['POS'][0].split(','))
            size = float(parameters['SIZE'][0].split(',')[0])
        except (KeyError, ValueError):
            self.send_table([], [], status='ERROR', message='POS and SIZE are needed')
            return
        rows = [row for item in vo.near(ra, dec, size / 2) for row in vo.sia1(item)]
        self.send_table(rows, ['name', 'ra', 'dec', 'form', 'accref'])

    def answer_tap_sync(self, parameters):
        query = parameters.get('QUERY', [''])[0]
        if not query.upper().startswith('SELECT'):
            self.send_table([], [], status='ERROR', message=f'ParseError at {query[:10]!r}',
                            status_code=400)
            return
        self.send_obscore(self.server.vo.datasets, parameters)

    def answer_links(self, parameters):
        vo = self.server.vo
        identifiers = parameters.get('ID', [])[:vo.max_ids]
        # In reverse: the standard leaves the order of IDs to the service.
        rows = [row for identifier in reversed(identifiers) for row in vo.links(identifier)]
        columns = ['ID', 'access_url', 'service_def', 'error_message', 'semantics', 'description',
                   'content_type', 'content_length', 'link_authorized']
        self.send_table(rows, columns, extra=service(
            'soda', 'ivo://ivoa.net/std/SODA#sync-1.0', f'{vo.url}/soda', [
                'name="ID" datatype="char" arraysize="*" value="" ref="ID"',
                'name="RUN" datatype="char" arraysize="*" value="7"',
                'name="CIRCLE" datatype="double" arraysize="3" xtype="circle" value=""',
                'name="BAND" datatype="double" arraysize="2" value=""']))

    def answer_soda(self, parameters):
        dataset = next(item for item in self.server.vo.datasets
                       if item.did == parameters['ID'][0])
        if not self.server.vo.near(*map(float, parameters['CIRCLE'][0].split())):
            self.send(204, {}, b'')
            return
        self.send(200, {'Content-Type': 'image/fits'}, dataset.files['fits'])
