"""Ask the service over TLS: `client.py METHOD PATH KEY BODY [HEADER]`; prints status, TLS version and answer."""

import http.client
import os
import socket
import ssl
import sys

ADDRESS, NAME = "10.0.2.15", "appliance.site.example"
method, path, key, body, *more = sys.argv[1:]
context = ssl.create_default_context(cafile="/root/site/ca.pem")
if os.environ.get("CERTIFICATE"):
    context.load_cert_chain(os.environ["CERTIFICATE"])
connection = http.client.HTTPSConnection(ADDRESS, 443, timeout=60)
source = (os.environ["SOURCE"], 0) if os.environ.get("SOURCE") else None
connection.sock = context.wrap_socket(socket.create_connection((ADDRESS, 443), 60, source), server_hostname=NAME)
version = connection.sock.version()
headers = {"Host": NAME, **({"Authorization": f"Bearer {key}"} if key else {})}
if body:
    headers["Content-Type"] = "application/json"
headers.update(dict(header.split(": ") for header in more))
connection.request(method, path, body or None, headers)
answer = connection.getresponse()
print(answer.status, version)
print(answer.read().decode())
