"""Object stores by obstore: a directory, S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

from taskflow.adapters.obstore.cloud import AzureArtifacts, GoogleArtifacts
from taskflow.adapters.obstore.local import LocalArtifacts
from taskflow.adapters.obstore.s3 import S3Artifacts

__all__ = ["AzureArtifacts", "GoogleArtifacts", "LocalArtifacts", "S3Artifacts"]
