"""Ask an engine: SOCKET ROUTE BODY; a body of null is a GET. Prints the status and the answer."""

import http.client
import socket
import sys

path, route, body = sys.argv[1:]
connection = http.client.HTTPConnection("engine", timeout=60)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(path)
if body == "null":
    connection.request("GET", route)
else:
    connection.request("POST", route, body, {"Content-Type": "application/json"})
answer = connection.getresponse()
print(answer.status)
print(answer.read().decode())
