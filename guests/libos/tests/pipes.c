/* pipes.c: pipes and socket pairs: order, limits, waiting, ends. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include "check.h"

#define CAPACITY 65536
#define LARGE (3 * CAPACITY + 17)

static char data[LARGE], back[LARGE];
static volatile sig_atomic_t broken;

static void note_broken(int number) {
    (void)number;
    broken++;
}

static void bytes_come_in_order(void) {
    int ends[2], left;
    struct stat status;
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], "abc", 3) == 3 && write(ends[1], "def", 3) == 3);
    CHECK(ioctl(ends[0], FIONREAD, &left) == 0 && left == 6);
    CHECK(read(ends[0], back, 4) == 4 && memcmp(back, "abcd", 4) == 0);
    CHECK(read(ends[0], back, 100) == 2 && memcmp(back, "ef", 2) == 0);
    CHECK(fstat(ends[0], &status) == 0 && S_ISFIFO(status.st_mode));
    FAILS(write(ends[0], "x", 1), EBADF);
    FAILS(read(ends[1], back, 1), EBADF);
    close(ends[1]);
    CHECK(read(ends[0], back, 1) == 0);
    close(ends[0]);
}

static void nobody_waits_who_does_not_want_to(void) {
    int ends[2];
    ssize_t sum = 0, part;
    CHECK(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    CHECK(fcntl(ends[0], F_GETFD) == FD_CLOEXEC && (fcntl(ends[1], F_GETFL) & O_NONBLOCK));
    FAILS(read(ends[0], back, 1), EAGAIN);
    while ((part = write(ends[1], data, 4096)) > 0)
        sum += part;
    CHECK(part == -1 && errno == EAGAIN && sum == CAPACITY);
    CHECK(read(ends[0], back, 100) == 100);
    FAILS(write(ends[1], data, 200), EAGAIN); /* small writes are not torn */
    CHECK(read(ends[0], back, 5000) == 5000);
    CHECK(write(ends[1], data, 200) == 200);
    CHECK(read(ends[0], back, LARGE) > 0);
    close(ends[0]), close(ends[1]);
}

static void *write_much(void *end) {
    CHECK(write(*(int *)end, data, LARGE) == LARGE);
    CHECK(close(*(int *)end) == 0);
    return NULL;
}

static void writer_and_reader_wait_for_each_other(int from, int to) {
    pthread_t thread;
    size_t sum = 0;
    ssize_t part;
    for (size_t i = 0; i < LARGE; i++)
        data[i] = (char)(i * 13 + i / 257);
    CHECK(pthread_create(&thread, NULL, write_much, &to) == 0);
    while ((part = read(from, back + sum, 7000)) > 0)
        sum += (size_t)part;
    CHECK(part == 0 && sum == LARGE && memcmp(data, back, LARGE) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    close(from);
}

static void a_pipe_without_reader_is_broken(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    broken = 0;
    FAILS(write(ends[1], "x", 1), EPIPE);
    CHECK(broken == 1);
    close(ends[1]);
}

static void *close_soon(void *end) {
    close(*(int *)end);
    return NULL;
}

static void a_reader_learns_of_the_end_while_it_waits(void) {
    int ends[2];
    pthread_t thread;
    CHECK(pipe(ends) == 0);
    CHECK(pthread_create(&thread, NULL, close_soon, &ends[1]) == 0);
    CHECK(read(ends[0], back, 1) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    close(ends[0]);
}

static void parts_are_enough(void) {
    int ends[2];
    char a[2], b[10];
    struct iovec parts[] = {{a, 2}, {b, 10}};
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], "ab", 2) == 2);
    CHECK(readv(ends[0], parts, 2) == 2); /* the second part does not wait */
    close(ends[0]), close(ends[1]);
}

static void socket_pairs_talk_both_ways(void) {
    int pair[2], value;
    socklen_t size = sizeof value;
    struct sockaddr_un name;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(send(pair[0], "to", 2, 0) == 2 && write(pair[1], "fro", 3) == 3);
    CHECK(recv(pair[1], back, 10, MSG_PEEK) == 2 && recv(pair[1], back, 10, 0) == 2);
    CHECK(read(pair[0], back, 10) == 3 && memcmp(back, "fro", 3) == 0);
    FAILS(recv(pair[0], back, 1, MSG_DONTWAIT), EAGAIN);
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == SOCK_STREAM);
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &size) == 0 && value == 0);
    size = sizeof name;
    CHECK(getsockname(pair[0], (struct sockaddr *)&name, &size) == 0);
    CHECK(name.sun_family == AF_UNIX && size == sizeof(sa_family_t));
    FAILS(recv(0, back, 1, 0), ENOTSOCK);
    CHECK(shutdown(pair[0], SHUT_WR) == 0 && recv(pair[1], back, 10, 0) == 0);
    FAILS(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(send(pair[1], "still", 5, 0) == 5 && recv(pair[0], back, 10, 0) == 5);
    close(pair[0]);
    broken = 0;
    FAILS(send(pair[1], "x", 1, 0), EPIPE);
    CHECK(broken == 1);
    close(pair[1]);
}

static void messages_come_in_parts(void) {
    int pair[2];
    char a[3], b[3];
    struct iovec out[] = {{"abc", 3}, {"de", 2}}, in[] = {{a, 3}, {b, 3}};
    struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(sendmsg(pair[0], &message, 0) == 5);
    message.msg_iov = in;
    CHECK(recvmsg(pair[1], &message, 0) == 5);
    CHECK(memcmp(a, "abc", 3) == 0 && memcmp(b, "de", 2) == 0);
    close(pair[0]), close(pair[1]);
}

int main(void) {
    int ends[2];
    signal(SIGPIPE, note_broken);
    bytes_come_in_order();
    nobody_waits_who_does_not_want_to();
    CHECK(pipe(ends) == 0);
    writer_and_reader_wait_for_each_other(ends[0], ends[1]);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    writer_and_reader_wait_for_each_other(ends[0], ends[1]);
    a_pipe_without_reader_is_broken();
    a_reader_learns_of_the_end_while_it_waits();
    parts_are_enough();
    socket_pairs_talk_both_ways();
    messages_come_in_parts();
    return done();
}
