# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A real server of the Virtual Observatory on this machine: GAVO DaCHS.
"""
