"""Processes large S3 objects, one SQS message a pod."""
