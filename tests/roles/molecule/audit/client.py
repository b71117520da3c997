"""Say one message at a socket of the audit process: `client.py SOCKET MESSAGE`; prints the answer, or null."""

import socket
import struct
import sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(20)
    connection.connect(sys.argv[1])
    data = sys.argv[2].encode()
    try:
        connection.sendall(struct.pack(">I", len(data)) + data)
        size = connection.recv(4, socket.MSG_WAITALL)
        print(connection.recv(struct.unpack(">I", size)[0], socket.MSG_WAITALL).decode() if size else "null")
    except ConnectionError:
        print("null")
