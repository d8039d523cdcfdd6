"""How sends of TCP are put together, and sends that connect, one line for each: see exact_cases.py."""

from socket import *

from exact_cases import *

SOL, TCP = SOL_SOCKET, IPPROTO_TCP
SO_PEERNAME, TCP_CONNECT, TCP_NO_COOKIE = 28, 30, 34


def there(sock):
    """What can be read now."""
    return out(sock.recv, 99, MSG_DONTWAIT)


def name(sock):
    address, port = sock.getsockname()[:2]
    return address, port


@case
def more_follows():
    client, server = pair()
    client.send(b"ab", MSG_MORE)
    held = there(server)
    client.sendmsg([b"c", b"d"], [], MSG_MORE)
    held = held, there(server)
    client.send(b"e")
    settle()
    return held, there(server)


@case
def more_is_said_to_follow():
    client, server = pair()
    client.send(b"ab", MSG_MORE)
    settle()
    return want(server, select.POLLIN), there(server)


@case
def more_to_a_destination():
    client, server = pair()
    sent = client.sendto(b"ab", MSG_MORE, (LO, 9))
    held = there(server)
    os.write(client.fileno(), b"c")
    settle()
    return sent, held, there(server)


@case
def more_ends_with_the_connection():
    client, server = pair()
    client.send(b"ab", MSG_MORE)
    client.shutdown(SHUT_WR)
    settle()
    other, peer = pair()
    other.send(b"cd", MSG_MORE)
    other.close()
    settle()
    return server.recv(9), server.recv(9), peer.recv(9), peer.recv(9)


@case
def more_than_a_segment():
    client, server = pair()
    sent = client.send(bytes(200_000), MSG_MORE), client.send(b"x")
    return sent, drain(server, 200_001)


@case
def no_delay_sends_what_waits():
    client, server = pair()
    client.send(b"ab", MSG_MORE)
    held = there(server)
    client.setsockopt(TCP, TCP_NODELAY, 1)
    settle()
    return held, there(server)


@case
def more_without_a_connection():
    sock, server = stream(), listener()
    refused = [out(one.send, b"x", MSG_MORE) for one in (sock, server)]
    client, server = pair()
    client.shutdown(SHUT_WR)
    return refused, out(client.send, b"x", MSG_MORE)


@case
def sends_that_connect():
    server, sock = listener(), stream()
    sent = sock.sendto(b"abc", MSG_FASTOPEN, name(server))
    accepted = server.accept()[0]
    got = accepted.recv(9), sock.getpeername() == server.getsockname()
    again = out(sock.sendto, b"x", MSG_FASTOPEN, name(server))
    message, other = stream(), None
    sent = sent, message.sendmsg([b"he", b"y"], [], MSG_FASTOPEN, name(server))
    other = server.accept()[0]
    return sent, got, again, other.recv(9), out(stream().send, b"x", MSG_FASTOPEN)


@case
def sends_that_do_not_connect():
    nobody = stream()
    nobody.bind((LO, 0))
    refused = out(stream().sendto, b"x", MSG_FASTOPEN, name(nobody))
    server, sock = listener(), stream(SOCK_NONBLOCK)
    begun = out(sock.sendto, b"abc", MSG_FASTOPEN, name(server))
    done = want(sock, select.POLLOUT)
    accepted = server.accept()[0]
    settle()
    return refused, begun, done, there(accepted), out(server.sendto, b"x", MSG_FASTOPEN, name(sock))


@case
def options_of_sends_that_connect():
    server, sock = listener(), stream()
    server.setsockopt(TCP, TCP_FASTOPEN, 7)
    told = [number(server, TCP, TCP_FASTOPEN), out(server.setsockopt, TCP, TCP_FASTOPEN, -1)]
    for option_ in TCP_CONNECT, TCP_NO_COOKIE:
        told.append((out(sock.setsockopt, TCP, option_, 1), number(sock, TCP, option_)))
        told.append(out(sock.setsockopt, TCP, option_, 2))
    return told, out(sock.connect, name(server))


@case
def options_of_connections():
    client, server = pair()
    told = [option(client, SOL, SO_PEERNAME, 2)]
    told.append((option(client, SOL, SO_PEERNAME, 120), option(stream(), SOL, SO_PEERNAME, 2)))
    told.append(out(client.setsockopt, TCP, TCP_WINDOW_CLAMP, 0))
    told.append(out(stream().setsockopt, TCP, TCP_WINDOW_CLAMP, 0))
    for value in -5, 0, 121, 59:
        client.setsockopt(TCP, TCP_LINGER2, value)
        told.append(number(client, TCP, TCP_LINGER2))
    client.setsockopt(SOL, SO_LINGER, struct.pack("ii", 2, 7))
    told.append((option(client, SOL, SO_LINGER, 8)))
    return told


@case
def sizes_of_segments():
    server, sock = stream(), stream()
    server.setsockopt(TCP, TCP_MAXSEG, 700)
    sock.setsockopt(TCP, TCP_MAXSEG, 500)
    server.bind((LO, 0))
    server.listen()
    sock.connect(name(server))
    accepted = server.accept()[0]
    thresholds = [struct.unpack_from("I", one.getsockopt(TCP, TCP_INFO, 104), 76)[0] for one in (sock, accepted)]
    return [number(one, TCP, TCP_MAXSEG) for one in (sock, accepted)], thresholds


@case
def buffers_at_first():
    return [number(stream(), SOL, which) for which in (SO_RCVBUF, SO_SNDBUF)]


run()
