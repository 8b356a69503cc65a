"""Writes down what this Python asks of the network: a line for each address and each name.

Python imports it at its start where its folder is in PYTHONPATH, in every child too.
"""

import os
import sys

_FILE = os.open(os.environ["WATCHED_NETWORK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_ADDRESSES = ("socket.connect", "socket.sendto", "socket.sendmsg")
_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def _note(event, arguments):
    if event in _ADDRESSES and isinstance(arguments[1], tuple):  # else of a file, or known before
        os.write(_FILE, "{} {}\n".format(*arguments[1][:2]).encode())
    if event in _NAMES and arguments[0]:
        os.write(_FILE, f"{arguments[0]} name\n".encode())


sys.addaudithook(_note)
