# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the workers of the tests do: things that a damaged file might make a decoder do.
"""

import os
import time

from astroclip_search.untrusted.serving import serve


def main(shared, way):
    serve(perform, shared, way)


def perform(task, content, ask):
    match task['do']:
        case 'echo':
            return {'pid': os.getpid()}, content
        case 'print':
            print('noise', flush=True)
            os.write(1, b'more noise')
            return {}, b''
        case 'pause':
            time.sleep(0.1)
            return {'pid': os.getpid()}, b''
        case 'sleep':
            time.sleep(60)
        case 'spin':  # as a loop in C does: no other thread gets a turn
            sum(range(10**11))
        case 'take':
            taken = bytes(task['bytes'])
            return {'n': len(taken)}, b''
        case 'exit':
            os._exit(3)
        case 'exit_once':
            try:
                os.remove(task['path'])
            except OSError:
                return {}, b''
            os._exit(3)
        case 'read':
            return {}, b''.join(ask('read', start, task['n']) for start in task['places'])
        case 'room':
            ask('room', task['n'], 0)
            ask('room', task['n'] // 2, 0)
            return {}, b''
    return {}, b''
