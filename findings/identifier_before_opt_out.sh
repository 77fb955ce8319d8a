#!/usr/bin/env bash
# `onnxruntime.disable_telemetry_events()` comes too late to keep the home folder clean. The Linux
# wheels carry telemetry that is on from the start: the import alone writes a device identifier
# and an event database below ~/.cache. The call that switches events off can only follow the
# import. With the environment variable ORT_DISABLE_TELEMETRY=1, set before the import, no file is
# written.
# Seen with onnxruntime 1.32.0 on Linux x86_64; 1.28.0 writes nothing.
# Misled: an archive or a space mission whose programs must leave no identifier and speak to
# nobody, and which trusts the function with the promising name, or the memory of older wheels.
# The script runs each case in a network namespace of its own without any interface, so that
# nothing can be sent; where the system forbids such namespaces, it stops.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 numpy==2.4.6
if ! unshare --map-root-user --net true; then
    echo 'This script needs a network namespace (unshare), which this system does not allow.' >&2
    exit 2
fi
WORKDIR="$dir" unshare --map-root-user --net "$dir/venv/bin/python" - <<'EOF'
import os
import subprocess
import sys
import tempfile

CASES = {
    'plain import': ({}, 'import onnxruntime'),
    'import, then disable_telemetry_events()':
        ({}, 'import onnxruntime; onnxruntime.disable_telemetry_events()'),
    'ORT_DISABLE_TELEMETRY=1, then import': ({'ORT_DISABLE_TELEMETRY': '1'}, 'import onnxruntime'),
}
found = []
for title, (extra, code) in CASES.items():
    home = tempfile.mkdtemp(dir=os.environ['WORKDIR'])
    environment = {'PATH': os.environ['PATH'], 'HOME': home, 'TMPDIR': home, **extra}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True)
    files = sorted(os.path.relpath(os.path.join(folder, name), home)
                   for folder, _, names in os.walk(home) for name in names)
    found.append(files)
    print(f'{title}: {len(files)} files')
    for name in files:
        print('   ', name)
if found[2]:
    sys.exit('Unexpected: files in spite of the environment variable.')
if not any('deviceid' in name for name in found[1]):
    sys.exit('No longer seen: no identifier is written when events are switched off after the import.')
EOF
