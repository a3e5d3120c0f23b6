"""What TaskFlow needs from the outside, as small Protocols. No driver's type crosses them."""

from typing import Final

PORT_VERSION: Final = 1
"""Raised when a port changes in a way that an adapter must follow; checked when a plug-in is loaded."""
