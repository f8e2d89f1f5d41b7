"""TLS to engines on other hosts: the certificate authority that the gateway and the supervisor trust."""

import ssl

from models.errors import Invalid
from models.settings.settings import Settings


def engine_tls(settings: Settings) -> ssl.SSLContext | None:
    """A context that accepts only certificates issued by `engine_tls_ca`; None without TLS.

    Raises:
        Invalid: only some of the three settings are set, or the authority's file cannot be read.
    """
    names = ("engine_tls_certificate", "engine_tls_key", "engine_tls_ca")
    missing = [name for name in names if getattr(settings, name) is None]
    if len(missing) == len(names):
        return None
    if missing or settings.engine_tls_ca is None:
        raise Invalid(f"TLS to engines needs {' and '.join(missing)} too: set all three.", param=missing[0])
    authority = settings.engine_tls_ca.expanduser()
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates in PEM format"
        raise Invalid(f"engine_tls_ca: {authority} cannot be used: {reason}.", param="engine_tls_ca") from error
