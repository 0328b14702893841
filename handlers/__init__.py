"""The routes: which objects go to which handler."""

from app.handler import Route
from handlers.checksum import checksum

ROUTES = [Route("*", checksum)]
