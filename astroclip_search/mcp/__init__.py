# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The server for assistants, ``astroclip-search mcp``: calls of the Model Context Protocol come in,
compact JSON and thumbnails go out. ``server`` has the tools and decides what they may read and
write, ``answers`` shortens tables for a language model. Both need the SDK, the other ``mcp``.
"""
