"""Urgent data of TCP (tcp(7), RFC 6093), one line for each case: see exact_cases.py."""

from exact_cases import *
from socket import MSG_DONTWAIT, MSG_OOB, MSG_PEEK, MSG_WAITALL, SO_OOBINLINE, SOL_SOCKET

SIOCATMARK = 0x8905


def marked(sock):
    return ioctl(sock, SIOCATMARK)


def urgent(data, inline=False):
    """A connection, over which data came whose upper-case letters are urgent."""
    client, server = pair()
    if inline:
        server.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
    for letter in data:
        client.send(letter.encode(), MSG_OOB if letter.isupper() else 0)
        settle()
    settle()
    return client, server


def pieces(sock):
    """What is read at once, until nothing is there."""
    got = []
    while isinstance(piece := out(sock.recv, 99, MSG_DONTWAIT), bytes) and piece:
        got.append((piece, marked(sock)))
    return got, piece


@case
def one_byte_beside_the_others():
    _client, server = urgent("abXcd")
    before = want(server, select.POLLPRI), marked(server)
    look = out(server.recv, 9, MSG_OOB | MSG_PEEK)
    return before, look, out(server.recv, 9, MSG_OOB), out(server.recv, 9, MSG_OOB), pieces(server)


@case
def a_byte_that_nobody_asks_for():
    _client, server = urgent("abXcd")
    return pieces(server), want(server, select.POLLPRI, 0), out(server.recv, 1, MSG_OOB)


@case
def among_the_others():
    _client, server = urgent("abXcd", inline=True)
    asked = out(server.recv, 1, MSG_OOB), marked(server)
    return asked, server.recv(9), marked(server), server.recv(1), marked(server), pieces(server)


@case
def reads_stop_there():
    _client, server = urgent("abcXdef")
    looked = server.recv(9, MSG_PEEK), server.recv(6, MSG_WAITALL)
    return looked, marked(server), server.recv(2), server.recv(9)


@case
def many_marks():
    client, server = pair()
    got = []
    for letter in b"ABCDE":
        client.sendall(b"x" * 100)
        client.send(bytes([letter]), MSG_OOB)
        want(server, select.POLLPRI)
        got.append((server.recv(1, MSG_OOB), len(server.recv(200)), marked(server)))
    return got, pieces(server)


@case
def the_last_of_a_message_is_urgent():
    client, server = pair()
    sent = client.send(b"hello", MSG_OOB), client.sendmsg([b"a", b"b"], [], MSG_OOB)
    settle()
    return sent, want(server, select.POLLPRI), server.recvmsg(9, 0, MSG_OOB)[0]


@case
def none_is_there():
    client, server = pair()
    client.send(b"x")
    settle()
    return out(server.recv, 1, MSG_OOB), out(client.recv, 1, MSG_OOB | MSG_DONTWAIT), pieces(server)


@case
def before_the_end():
    client, server = urgent("abX")
    client.close()
    settle()
    return want(server, select.POLLPRI), server.recv(1, MSG_OOB), server.recv(9), server.recv(9)


@case
def both_ways_with_data():
    client, server = pair()
    result = []
    for sender, receiver in (client, server), (server, client):
        receiver.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)

        def speak(sender=sender):
            sender.sendall(bytes(300_000))
            sender.send(b"!", MSG_OOB)
            sender.sendall(bytes(200_000))

        thread = started(speak)
        places, got = [], 0
        while got < 500_001:
            want(receiver, select.POLLIN)
            at_mark = marked(receiver)
            piece = receiver.recv(1 if at_mark else 10_000)
            if at_mark:
                places.append((got, piece))
            got += len(piece)
        thread.join()
        result.append((got, places))
    return result


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])


def signalled(seconds):
    return signal.sigtimedwait([signal.SIGURG], seconds) is not None


@case
def who_owns_it_gets_a_signal():
    client, server = pair()
    client.send(b"1", MSG_OOB)
    want(server, select.POLLPRI)
    fcntl.fcntl(server, fcntl.F_SETOWN, os.getpid())
    nobody = signalled(0), fcntl.fcntl(server, fcntl.F_GETOWN) == os.getpid()
    server.recv(1, MSG_OOB)
    client.send(b"2", MSG_OOB)
    return nobody, signalled(5), server.recv(1, MSG_OOB), signalled(0)


@case
def select_and_epoll_tell():
    client, server = pair()
    watch = select.epoll()
    watch.register(server, select.EPOLLPRI)
    quiet = watch.poll(0), select.select([], [], [server], 0)[2]
    client.send(b"x", MSG_OOB)
    told = [events for _, events in watch.poll(2)], len(select.select([], [], [server], 2)[2])
    return quiet, told, server.recv(1, MSG_OOB), watch.poll(0), select.select([], [], [server], 0)[2]


run()
