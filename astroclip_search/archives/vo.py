# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
SIA and TAP queries -> results of pyvo, which does the protocols.

What is added here: patience that ends, a name that a service can read in its log, and one sentence
about the service that fails in place of several kinds of errors.
"""

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..exceptions import ImageError, IncompleteQueryWarning, invalid, one_line, warn
from ..images.http import RETRY_STATUS, back_off
from ..images.sessions import Visit
from ..untrusted.quiet import quiet
from ..untrusted.values import host_of, split, without_secrets
from ..untrusted.xml import check_answer

if TYPE_CHECKING:
    import requests
    from astropy.units import Quantity

__all__ = ['service_address', 'sia', 'tap']


def sia(service: Any, *, version: int = 2, pos: Any = None, radius: 'Quantity | None' = None,
        maxrec: int | None = None, trusted: bool = True, **criteria: Any) -> Any:
    """
    Ask an image service, or the one at an address, for images within a radius around a position, or
    in a region as `pyvo.dal.SIA2Service.search` takes it; criteria that are `None` are left out.
    """
    from pyvo import dal

    criteria = {name: _listed(value) for name, value in criteria.items() if value is not None}
    if maxrec is not None:
        criteria['maxrec'] = int(maxrec)
    address = service_address(service)
    if version not in (1, 2):
        raise invalid(f'version must be 1 or 2, the version of SIA, not {version!r}.')
    hint = (' If it is an SIA1 service, pass version=1.'
            if isinstance(service, str) and version == 2 else '')
    with _visit(address, trusted) as visit, _told(address, visit, other=hint):
        service, session = _sending(service, visit)
        if isinstance(service, str):
            service = (_sia2(address, session) if version == 2
                       else dal.SIAService(address, session=session))
            visit.answered = False  # but the service's capabilities, which is not the query yet
        if not isinstance(service, dal.SIAService):
            if radius is not None:
                pos = (pos.icrs.ra, pos.icrs.dec, radius)
            return _checked(service.search(pos=_listed(pos), **criteria), address, maxrec)
        if radius is None:
            raise invalid('SIA1 needs a position and a radius.')
        if unknown := criteria.keys() & {'band', 'time', 'collection'}:
            raise invalid(f'SIA1 has no {min(unknown)}: leave it out, or ask an SIA2 service.')
        return _checked(service.search(pos=pos.icrs, size=2 * radius, **criteria), address,
                        maxrec)


def tap(service: Any, query: str, *, asynchronous: bool = False, maxrec: int | None = None,
        trusted: bool = True, **options: Any) -> Any:
    """
    Ask a table service, or the one at an address, in ADQL; ``asynchronous`` is for queries that
    take longer than a connection lives, the other options are those of ``run_sync``.
    """
    from pyvo import dal

    address = service_address(service)
    if not isinstance(query, str) or not query.strip():
        raise invalid('query must be ADQL such as "SELECT TOP 100 * FROM ivoa.obscore".')
    slow = '' if asynchronous else ' A long query needs async_=True.'
    with _visit(address, trusted, each=asynchronous) as visit, _told(address, visit, slow=slow):
        service, session = _sending(service, visit)
        if isinstance(service, str):
            service = dal.TAPService(address, session=session)
        ask = service.run_async if asynchronous else service.run_sync
        # pyvo leaves out a limit of 0, and the service would send all.
        options |= {'MAXREC': '0'} if maxrec == 0 else {'maxrec': maxrec}
        return _checked(ask(query, **options), address, maxrec)


def service_address(service: Any) -> str:
    """
    Where a service of pyvo, or one that is given by its address, is: without credentials.
    """
    given = service if isinstance(service, str) else getattr(service, 'baseurl', None)
    parts = split(given.strip()) if isinstance(given, str) else None
    if parts is None or not (isinstance(service, str) or hasattr(service, 'search')):
        raise invalid('service must be the http or https address of a VO service, or a service of '
                      f'pyvo, not {without_secrets(str(service))[:80]!r}.')
    return parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()


def _listed(value: Any) -> Any:
    """
    Quantities as pyvo wants them, which asks whether they are true.
    """
    from astropy.units import Quantity

    if isinstance(value, Quantity):
        return [value if value.isscalar else tuple(value)]
    return value


def _sia2(address: str, session: 'requests.Session') -> Any:
    """
    An SIA2 service by its address: where the capabilities say that queries go, else right there.
    """
    from pyvo import dal

    try:
        with quiet():  # pyvo warns of all that it does not know in what services say of themselves
            return dal.SIA2Service(address, session=session)
    # What answers there may be a page, JSON, or XML of any other kind.
    except Exception as error:
        if getattr(error, 'code', None) == 429:
            raise
        return dal.SIA2Service(address, session=session, check_baseurl=False)


def _visit(address: str, trusted: bool, *, each: bool = False) -> Visit:
    """
    The requests of one query: to the service, which is trusted if the user has named it in person,
    and where it leads.
    """
    from ..config import conf

    # Not after a 429: that one says when to come back, and the user decides.
    return Visit(seconds=conf.query_timeout or math.inf, each=each, home=address,
                 timeout=(conf.connect_timeout, conf.timeout),
                 trusted=[host_of(address)] * trusted + list(conf.private_hosts),
                 retries=conf.retries,
                 again=set(RETRY_STATUS) - {429}, pause=back_off, read=check_answer)


def _sending(service: Any, visit: Visit) -> tuple[Any, 'requests.Session']:
    """
    A service that asks by a visit, and its session: of one of the user's it is a copy that has the
    credentials, headers and cookies that the user gave it, and does not read ``~/.netrc``; of an
    address it has the credentials in there.
    """
    import requests
    from pyvo.utils import http

    from .. import __version__

    session = requests.Session()
    given = getattr(service, '_session', None)
    if isinstance(service, str):
        agent = http.create_session().headers['User-Agent']
        session.headers['User-Agent'] = f'astroclip_search/{__version__} {agent}'
        # Elsewhere they would be in every error that names the address.
        if any(credentials := requests.utils.get_auth_from_url(service.strip())):
            session.auth = credentials
        visit.mount(session)
        return service, session
    stand_in = visit.stand_in(given)
    if stand_in is None:
        raise invalid('The session of a service must be one of requests or of pyvo.auth, not '
                      f'{type(given).__name__}: only those ask within conf.query_timeout and '
                      'conf.private_hosts.')
    service = copy.copy(service)
    service._session = stand_in
    return service, stand_in


def _checked(results: Any, address: str, maxrec: int | None) -> Any:
    """
    Say if the service has cut its answer short, unless there are as many rows as were asked for.
    """
    if results.status[0].upper() == 'OVERFLOW' and not (
            maxrec is not None and len(results) >= maxrec):
        warn(f'{without_secrets(address)} has more rows than the {len(results)} that it sent: '
             'raise maxrec, or narrow the query.', IncompleteQueryWarning)
    return results


@contextlib.contextmanager
def _told(address: str, visit: Visit, *, other: str = '', slow: str = '') -> Iterator[None]:
    """
    Turn what goes wrong in here into errors of astroquery that name the service.

    ``other`` is said of answers that are no result, ``slow`` of those that do not come.
    """
    import requests
    import urllib3
    from astropy.units import UnitsError
    from astroquery import exceptions
    from pyvo import dal

    address = without_secrets(address)
    try:
        with quiet(dal.DALOverflowWarning):  # told by _checked
            yield
    except exceptions.InvalidQueryError:
        raise
    except dal.DALQueryError as error:
        raise invalid(f'{address} does not accept the query: {_said(error)}.{other}') from error
    except (dal.DALAccessError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        code = getattr(error, 'code', None)
        if code == 429:
            wait = getattr(error, 'retry_after_seconds', None)  # since pyvo 1.8.1
            when = f'in {wait:g} s' if wait else 'later'
            raise exceptions.RemoteServiceError(f'{address} has had too many queries (HTTP 429): '
                                                f'come back {when}.') from error
        if visit.is_over:
            raise exceptions.TimeoutError(f'{address} took longer than {visit.seconds:g} s '
                                          f'(conf.query_timeout).{slow}') from error
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ImageError) and cause.because.code in ('private', 'private_name'):
                raise exceptions.RemoteServiceError(f'{address} leads elsewhere: {cause.reason}.'
                                                    ) from error
        if any(isinstance(cause, requests.Timeout | urllib3.exceptions.ReadTimeoutError)
               for cause in causes):
            raise exceptions.TimeoutError(f'{address} did not answer in time (conf.timeout).'
                                          f'{slow}') from error
        if any(isinstance(cause, requests.ConnectionError) for cause in causes):
            raise exceptions.RemoteServiceError(f'{address} cannot be reached.') from error
        failed = f'failed with HTTP {code}' if code else 'failed'
        raise exceptions.RemoteServiceError(f'{address} {failed}: {_said(error)}.'
                                            f'{other}') from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
            UnitsError) as error:
        if visit.answered:  # what the user has said was understood by then
            raise exceptions.RemoteServiceError(
                f'The answer of {address} makes no sense: {_said(error)}.') from error
        if not isinstance(error, TypeError | ValueError | UnitsError):
            raise
        raise invalid(f'The query to {address} makes no sense: {_said(error)}.') from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """
    An error and those that it came from; pyvo keeps some of them in attributes.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [error.__cause__, error.__context__, getattr(error, 'cause', None)]


def _said(error: Exception) -> str:
    return one_line(without_secrets(str(error)), 300).rstrip('.')
