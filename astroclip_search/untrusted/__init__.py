# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Bytes, numbers, addresses and documents of strangers come in; what the rest of the package may
read goes out, or an error that says why it may not. Nothing here knows an image, a table or a
model.
"""
