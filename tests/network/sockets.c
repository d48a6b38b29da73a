/* sockets.c: what Linux does with sockets of AF_INET, in the places where programs look closely.
 *
 * sockets TCP_PORT UDP_PORT FREE_PORT: ports on loopback of servers that send back what they get, and
 * one to listen on. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "check.h"

static struct sockaddr_in tcp, udp, own;
static volatile int broken_pipes;

static struct sockaddr_in loopback(const char *port) {
    return (struct sockaddr_in){AF_INET, htons(atoi(port)), {htonl(INADDR_LOOPBACK)}, {0}};
}

static int connected(int type, const struct sockaddr_in *to) {
    int made = socket(AF_INET, type, 0);
    CHECK(made >= 0 && connect(made, (const void *)to, sizeof *to) == 0);
    return made;
}

static void count(int number) { broken_pipes += number == SIGPIPE; }

static void what_is_no_socket_is_told(void) {
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    FAILS(connect(pipes[0], (void *)&tcp, sizeof tcp), ENOTSOCK);
    FAILS(send(pipes[1], "x", 1, 0), ENOTSOCK);
    FAILS(listen(999, 1), EBADF);
    FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    FAILS(socket(AF_INET, 77, 0), EINVAL);
    close(pipes[0]);
    close(pipes[1]);
}

static void addresses_are_checked(void) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = tcp.sin_port};
    int made = socket(AF_INET, SOCK_STREAM, 0);
    FAILS(connect(made, (void *)&tcp, 4), EINVAL);
    FAILS(connect(made, (void *)&six, sizeof six), EAFNOSUPPORT);
    FAILS(connect(made, NULL, sizeof tcp), EFAULT);
    FAILS(recv(made, &six, 1, 0), ENOTCONN);
    FAILS(getpeername(made, (void *)&six, &(socklen_t){sizeof six}), ENOTCONN);
    FAILS(accept(made, NULL, NULL), EINVAL);
    close(made);
}

static void names_are_cut_to_the_room_there_is(void) {
    struct sockaddr_in name = {0};
    socklen_t size = 4;
    int made = connected(SOCK_STREAM, &tcp);
    CHECK(getpeername(made, (void *)&name, &size) == 0 && size == sizeof name);
    CHECK(name.sin_port == tcp.sin_port && name.sin_addr.s_addr == 0);
    size = sizeof name;
    CHECK(getpeername(made, (void *)&name, &size) == 0 && name.sin_addr.s_addr);
    FAILS(connect(made, (void *)&tcp, sizeof tcp), EISCONN);
    close(made);
}

static void connecting_goes_on_in_the_background(void) {
    int made = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = -1;
    struct pollfd entry = {made, POLLOUT, 0};
    CHECK(fcntl(made, F_GETFL) & O_NONBLOCK && fcntl(made, F_GETFD) == FD_CLOEXEC);
    FAILS(connect(made, (void *)&tcp, sizeof tcp), EINPROGRESS);
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents == POLLOUT);
    CHECK(getsockopt(made, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error}) == 0);
    CHECK(error == 0);
    FAILS(recv(made, &error, 1, 0), EAGAIN);
    close(made);
}

static void the_end_shows_in_poll_and_epoll(void) {
    char byte;
    int made = connected(SOCK_STREAM, &tcp), set = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, {.u32 = 7}};
    struct pollfd entry = {made, POLLIN | POLLRDHUP, 0};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, made, &event) == 0);
    CHECK(shutdown(made, SHUT_WR) == 0);
    CHECK(epoll_wait(set, &event, 1, -1) == 1 && event.data.u32 == 7 && event.events & EPOLLRDHUP);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    CHECK(poll(&entry, 1, -1) == 1 && (entry.revents & POLLIN) && (entry.revents & POLLRDHUP));
    CHECK(recv(made, &byte, 1, 0) == 0 && read(made, &byte, 1) == 0);
    FAILS(send(made, "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(broken_pipes == 0);
    FAILS(write(made, "x", 1), EPIPE);
    CHECK(broken_pipes == 1);
    close(set);
    close(made);
}

static void streams_move_through_parts(void) {
    char first[3], rest[64], bytes[] = "abcdefghij";
    int made = connected(SOCK_STREAM, &tcp), arrived = 0;
    struct iovec out[] = {{bytes, 4}, {bytes + 4, 6}}, in[] = {{first, 3}, {rest, sizeof rest}};
    CHECK(writev(made, out, 2) == 10);
    while (arrived < 10)
        CHECK(ioctl(made, FIONREAD, &arrived) == 0);
    CHECK(recv(made, rest, 4, MSG_PEEK) == 4 && memcmp(rest, "abcd", 4) == 0);
    CHECK(readv(made, in, 2) == 10 && memcmp(first, "abc", 3) == 0 &&
          memcmp(rest, "defghij", 7) == 0);
    close(made);
}

static void datagrams_move_several_at_once(void) {
    char in[3][4];
    struct iovec out[] = {{"one", 3}, {"three", 5}, {"", 0}};
    struct iovec rooms[] = {{in[0], 4}, {in[1], 4}, {in[2], 4}};
    struct mmsghdr sent[3] = {0}, received[3] = {0};
    struct sockaddr_in from[3];
    int made = socket(AF_INET, SOCK_DGRAM, 0);
    FAILS(send(made, "x", 1, 0), EDESTADDRREQ);
    for (int i = 0; i < 3; i++) {
        sent[i].msg_hdr = (struct msghdr){&udp, sizeof udp, &out[i], 1, NULL, 0, 0};
        received[i].msg_hdr = (struct msghdr){&from[i], sizeof from[i], &rooms[i], 1, NULL, 0, 0};
    }
    CHECK(sendmmsg(made, sent, 3, 0) == 3 && sent[1].msg_len == 5);
    CHECK(recvmmsg(made, received, 3, 0, NULL) == 3);
    CHECK(received[0].msg_len == 3 && !received[0].msg_hdr.msg_flags && received[2].msg_len == 0);
    CHECK(received[1].msg_len == 4 && received[1].msg_hdr.msg_flags == MSG_TRUNC);
    CHECK(from[1].sin_port == udp.sin_port && received[1].msg_hdr.msg_namelen == sizeof udp);
    CHECK(memcmp(in[1], "thre", 4) == 0);
    FAILS(recvmmsg(made, received, 3, MSG_DONTWAIT, NULL), EAGAIN);
    close(made);
}

static void a_datagram_tells_its_whole_length(void) {
    char bytes[4];
    int made = connected(SOCK_DGRAM, &udp);
    struct sockaddr nowhere = {AF_UNSPEC, {0}};
    CHECK(send(made, "length", 6, 0) == 6);
    CHECK(recv(made, bytes, sizeof bytes, MSG_TRUNC | MSG_PEEK) == 6);
    CHECK(recv(made, bytes, sizeof bytes, 0) == 4);
    CHECK(connect(made, &nowhere, sizeof nowhere) == 0);
    FAILS(send(made, "x", 1, 0), EDESTADDRREQ);
    FAILS(listen(made, 1), EOPNOTSUPP);
    close(made);
}

static void connections_are_accepted(void) {
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    int value = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value) == 0);
    CHECK(bind(listener, (void *)&own, sizeof own) == 0 && listen(listener, 8) == 0);
    CHECK(getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &value, &(socklen_t){sizeof value}) == 0);
    CHECK(value == 1);
    int client = connected(SOCK_STREAM, &own);
    int accepted = accept4(listener, (void *)&from, &size, SOCK_NONBLOCK);
    CHECK(accepted >= 0 && from.sin_addr.s_addr == own.sin_addr.s_addr && size == sizeof from);
    CHECK(fcntl(accepted, F_GETFL) & O_NONBLOCK);
    CHECK(send(client, "x", 1, 0) == 1);
    struct pollfd entries[] = {{accepted, POLLIN, 0}, {listener, POLLIN, 0}};
    CHECK(poll(entries, 2, -1) == 1 && entries[0].revents == POLLIN);
    close(client);
    close(accepted);
    CHECK(fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
    FAILS(accept(listener, NULL, NULL), EAGAIN);
    FAILS(bind(listener, (void *)&own, sizeof own), EINVAL);
    close(listener);
}

int main(int count_of, char **arguments) {
    CHECK(count_of == 4);
    tcp = loopback(arguments[1]);
    udp = loopback(arguments[2]);
    own = loopback(arguments[3]);
    signal(SIGPIPE, count);
    what_is_no_socket_is_told();
    addresses_are_checked();
    names_are_cut_to_the_room_there_is();
    connecting_goes_on_in_the_background();
    the_end_shows_in_poll_and_epoll();
    streams_move_through_parts();
    datagrams_move_several_at_once();
    a_datagram_tells_its_whole_length();
    connections_are_accepted();
    return done();
}
