"""CPython's own network tests (Debian's libpython3.11-testsuite): one job for each of its files."""

import os
import re

import network

WHERE = network
PLACES = network.PLACES

TESTS = (
    "test_socket test_socketserver test_select test_selectors test_poll test_epoll test_httplib "
    "test_httpservers test_ftplib test_poplib test_imaplib test_smtplib test_ssl test_asyncio "
    "test_xmlrpc test_telnetlib test_urllib2_localnet"
).split()
# The quick ones, for every run of the tests.
QUICK = "test_socketserver test_select test_httplib test_httpservers test_smtplib".split()

PYTHON = "/usr/bin/python3"
# A test of AF_VSOCK waits for ever on a virtual machine whose host has no way back.
OPTIONS = "-v -u all,-gui,-audio,-largefile -i *VSOCK* --timeout 120".split()
VERDICT = re.compile(r"^(\w+) \((?:test\.)?(\S+)\)(?:\n[^\n]*?)? \.\.\. (.*)$", re.M)
END = re.compile(r"(ok|ERROR|FAIL|expected failure|skipped .*)$", re.M)
WORDS = {"ok": "pass", "ERROR": "fail", "FAIL": "fail", "expected failure": "pass"}


def prepare(_work):
    """Tells what is missing."""
    if not os.path.exists("/usr/lib/python3.11/test/test_socket.py"):
        return "apt-get install libpython3.11-testsuite"
    return None


def jobs(quick):
    """Name, command and limit in seconds of each job."""
    for name in QUICK if quick else TESTS:
        yield name, [PYTHON, "-m", "test", *OPTIONS, name], 900


def verdicts(text):
    """Each test case and how it ended."""
    found = {}
    for match in VERDICT.finditer(text):
        name = match.group(2)
        if not name.endswith("." + match.group(1)):
            name += "." + match.group(1)
        # What a test prints stands between its name and its verdict.
        end = END.search(text, match.start(3))
        word = end.group(1) if end else "lost"
        found[name] = WORDS.get(word, "skip" if word.startswith("skipped") else "lost")
    return found
