"""Open a network connection."""

import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=5) as connection:
    print(connection.recv(100).decode())
