"""moto's server as a process: tells its URL on stdout, and ends when its stdin does.

So it cannot outlive whoever started it, however that ended, and shares no GIL with it.
"""

import logging
import sys


def main() -> None:
    """Serve on a free port of 127.0.0.1 until the end of stdin."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
