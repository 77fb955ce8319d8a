#!/usr/bin/env bash
# DALI 1.1 (section 3.4.4) and TAP give MAXREC=0 a meaning: the service answers with the columns and
# no rows, which is how one asks what a query would return. pyvo's TAPQuery tests maxrec for truth,
# so a zero is never sent: the service receives no MAXREC at all and answers up to its own limit,
# which may be millions of rows. Its SIA2 query sends the zero, so the same argument means "no
# rows" in one client class and "all that you have" in the other. There is no error and no warning.
# Seen with pyvo 1.9.1 on a TAP service and an SIA2 service that this script runs on loopback.
# Misled: whoever asks for the columns of an expensive query with maxrec=0, and whoever passes on a
# limit that a caller has computed; what works is to put MAXREC into the query's parameters.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pyvo==1.9.1 astropy==8.0.2
"$dir/venv/bin/python" - <<'EOF'
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from pyvo.dal import SIA2Query, TAPQuery

ANSWER = b'''<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/>
<TABLE><FIELD name="a" datatype="int"/></TABLE></RESOURCE></VOTABLE>'''
seen = []


class Service(BaseHTTPRequestHandler):
    def answer(self, text):
        seen.append((urlsplit(self.path).path, parse_qs(text).get('MAXREC')))
        self.send_response(200)
        self.send_header('Content-Type', 'application/x-votable+xml')
        self.end_headers()
        self.wfile.write(ANSWER)

    def do_GET(self):
        self.answer(urlsplit(self.path).query)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers['Content-Length'])).decode())

    def log_message(self, *args):
        pass


server = HTTPServer(('127.0.0.1', 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f'http://127.0.0.1:{server.server_port}'
for maxrec in (5, 0):
    TAPQuery(f'{address}/tap', 'SELECT a FROM t', maxrec=maxrec).execute()
    SIA2Query(f'{address}/sia2', pos=(10, -5, 0.1), maxrec=maxrec).execute()
server.shutdown()
for (path, value), asked in zip(seen, (5, 5, 0, 0), strict=True):
    print(f'maxrec={asked} arrives at {path} as MAXREC={value and value[0]}')
if [value for path, value in seen if 'sia2' in path] != [['5'], ['0']]:
    sys.exit('Unexpected: the query of images does not send what it is given.')
if [value for path, value in seen if 'tap' in path] != [['5'], None]:
    sys.exit('No longer seen: a zero is sent to the table service as well.')
EOF
