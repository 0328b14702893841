"""Processes large S3 objects, one SQS message a pod."""

__version__ = "0.1.0"
