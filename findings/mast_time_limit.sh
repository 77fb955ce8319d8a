#!/usr/bin/env bash
# astroquery.mast has a setting "timeout" (conf.timeout, from which TIMEOUT of its classes is filled
# at import), described as the time limit for requests from the STScI server. No request is sent
# with it, nor with any other limit: the number is compared to the clock only when an answer has
# come. A server that is silent for ten minutes holds the call for ten minutes, and one that never
# answers holds it for good. When a late answer comes, TimeoutError is raised, and the complete
# table that has arrived is thrown away.
# Seen with astroquery 0.4.11 on a server of this script on loopback, which answers once, completely,
# after three times the limit.
# Misled: whoever sets the limit in a pipeline or a web service and expects an exception in time;
# what works is an adapter of requests with a timeout, mounted on the session of the class.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astroquery==0.4.11 astropy==8.0.2
"$dir/venv/bin/python" - <<'EOT'
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIMIT = 1.0
seen = []


class Portal(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        if self.path == '/columns':
            return self.send(b'{"ExtendedProperties": {}}')
        seen.append(self.path)
        time.sleep(3 * LIMIT)
        answer = json.dumps({'status': 'COMPLETE', 'msg': '',
                             'fields': [{'name': 'obsid', 'type': 'string'}],
                             'data': [{'obsid': '1'}],
                             'paging': {'page': 1, 'pageSize': 10, 'pagesFiltered': 1, 'rows': 1,
                                        'rowsFiltered': 1, 'rowsTotal': 1}}).encode()
        return self.send(answer)

    def send(self, answer):
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(('127.0.0.1', 0), Portal)
threading.Thread(target=server.serve_forever, daemon=True).start()

from astroquery.mast import MastClass, discovery_portal  # noqa: E402

# Both are read from the configuration when the module is imported, and belong to the class then.
portal = discovery_portal.PortalAPI
portal.MAST_REQUEST_URL = f'http://127.0.0.1:{server.server_port}/api/v0/invoke'
portal.COLUMNS_CONFIG_URL = f'http://127.0.0.1:{server.server_port}/columns'
portal.TIMEOUT = LIMIT
mast = MastClass()
start = time.monotonic()
try:
    mast.service_request('Any.Service', {'input': 'M 31'})
    error = None
except Exception as raised:
    error = raised
taken = time.monotonic() - start
server.shutdown()
print(f'limit {portal.TIMEOUT:g} s; after {taken:.1f} s and {len(seen)} complete answer: '
      f'{type(error).__name__}')
if taken < 2 * LIMIT:
    sys.exit('No longer seen: the limit holds.')
if type(error).__name__ != 'TimeoutError':
    sys.exit('No longer seen: the late answer is taken.')
EOT
