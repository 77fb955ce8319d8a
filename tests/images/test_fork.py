# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
After a fork the child still reads images, whatever the threads of its parent were doing.
"""

import os
import subprocess
import sys

import pytest

PARENT = """
import io
import os
import signal
import threading
from PIL import Image
from astroclip_search.images import datalink
from astroclip_search.images.render import render

stream = io.BytesIO()
Image.linear_gradient('L').resize((2100, 2000)).save(stream, 'PNG')
LARGE = stream.getvalue()
LINKS = b'<VOTABLE version="1.4"><RESOURCE type="results"/></VOTABLE>'

def draw():
    assert render(LARGE, side=100).getpixel((0, 0)) < (20, 20, 20)

def read():
    assert datalink.read_document(LINKS, 'https://archive.example/links').rows == []

draw()
held, done = threading.Event(), threading.Event()

def hold():
    with datalink._parsing:
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(40)  # if it hangs
    draw()
    read()
    os._exit(0)
_, status = os.waitpid(child, 0)
done.set()
draw()
read()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
def test_a_child_reads_a_large_image_and_a_document():
    subprocess.run([sys.executable, '-c', PARENT], check=True, timeout=60)


WORKERS = """
import io
import os
import signal
from PIL import Image
from astroclip_search.images.apart import Decoder, Order
from astroclip_search.images.drawing import Drawing

stream = io.BytesIO()
Image.linear_gradient('L').save(stream, 'PNG')
ORDER = Order((Drawing(100),))

def draw():
    decoder = Decoder(isolate=True)
    assert decoder.draw(stream.getvalue(), ORDER).pictures[0].getpixel((0, 0)) < (20, 20, 20)
    decoder.close()

draw()
child = os.fork()
if child == 0:
    signal.alarm(40)  # if it hangs
    draw()
    draw()
    os._exit(0)
draw()
_, status = os.waitpid(child, 0)
draw()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
def test_a_child_has_workers_of_its_own():
    subprocess.run([sys.executable, '-W', 'error', '-c', WORKERS], check=True, timeout=60)
