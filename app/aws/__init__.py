"""The only code that knows the SDK."""
