"""The image for real: built on a fresh Debian, and run as a pod runs it."""
