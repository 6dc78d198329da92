"""Records changed by hand whose checksum is right again, as an older or newer version, or a forger, leaves them."""

import json

from ablate.run.record import checksum


def sealed(content):
    """The JSON of a record with the checksum of its content."""
    return json.dumps({**content, "checksum": checksum(content)})
