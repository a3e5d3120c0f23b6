"""What tests of plug-ins share with the others, whether those run, too, or not."""

from tests.conftest import (
    anyio_backend,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_unconfigure,
    say,
)

__all__ = [
    "anyio_backend",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_unconfigure",
    "say",
]
