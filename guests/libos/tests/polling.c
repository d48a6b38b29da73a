/* polling.c: poll, select and epoll over pipes, eventfd and timerfd. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

#define MILLISECOND 1000000LL

static int ends[2];

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void *write_one(void *end) {
    CHECK(write(*(int *)end, "x", 1) == 1);
    return NULL;
}

static void drain(int end) {
    char byte;
    CHECK(read(end, &byte, 1) == 1);
}

static void poll_tells_what_is_ready(void) {
    struct pollfd entries[] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 9}};
    CHECK(poll(entries, 3, 0) == 1 && entries[0].revents == 0);
    CHECK(entries[1].revents == POLLOUT && entries[2].revents == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(poll(entries, 1, -1) == 1 && entries[0].revents == POLLIN);
    drain(ends[0]);
    entries[0].fd = 999;
    CHECK(poll(entries, 1, -1) == 1 && entries[0].revents == POLLNVAL);
    int other[2];
    CHECK(pipe(other) == 0);
    close(other[1]);
    entries[0].fd = other[0];
    CHECK(poll(entries, 1, 0) == 1 && (entries[0].revents & POLLHUP));
    close(other[0]);
    CHECK(pipe(other) == 0);
    close(other[0]);
    entries[0] = (struct pollfd){other[1], POLLOUT, 0};
    CHECK(poll(entries, 1, 0) == 1 && (entries[0].revents & POLLERR));
    close(other[1]);
}

static void waits_end_in_time(void) {
    struct pollfd entry = {ends[0], POLLIN, 0};
    struct timeval timeout = {0, 20000};
    fd_set set;
    long long start = now();
    CHECK(poll(&entry, 1, 20) == 0 && now() - start >= 20 * MILLISECOND);
    start = now();
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CHECK(select(ends[0] + 1, &set, NULL, NULL, &timeout) == 0 && !FD_ISSET(ends[0], &set));
    CHECK(now() - start >= 20 * MILLISECOND && timeout.tv_sec == 0 && timeout.tv_usec == 0);
    timeout.tv_usec = 1000;
    CHECK(select(0, NULL, NULL, NULL, &timeout) == 0);
    timeout.tv_sec = -1;
    FAILS(select(0, NULL, NULL, NULL, &timeout), EINVAL);
}

static void another_thread_ends_the_wait(void) {
    struct pollfd entry = {ends[0], POLLIN, 0};
    pthread_t thread;
    fd_set set;
    CHECK(pthread_create(&thread, NULL, write_one, &ends[1]) == 0);
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents == POLLIN);
    drain(ends[0]);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, write_one, &ends[1]) == 0);
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CHECK(select(ends[0] + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(ends[0], &set));
    drain(ends[0]);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void select_asks_three_questions(void) {
    fd_set in, out, special;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&special);
    FD_SET(ends[0], &in);
    FD_SET(ends[1], &out);
    FD_SET(ends[0], &special);
    CHECK(select(ends[1] + 1, &in, &out, &special, NULL) == 1);
    CHECK(!FD_ISSET(ends[0], &in) && FD_ISSET(ends[1], &out) && !FD_ISSET(ends[0], &special));
    FD_SET(ends[1] + 9, &in);
    FAILS(select(ends[1] + 10, &in, NULL, NULL, NULL), EBADF);
}

static volatile sig_atomic_t handled;

static void handle(int number) {
    (void)number;
    handled++;
}

static void *signal_main(void *thread) {
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

static void a_signal_ends_only_the_wait_that_lets_it(void) {
    struct pollfd entry = {ends[0], POLLIN, 0};
    struct timespec soon = {0, 20000000};
    sigset_t none, blocked;
    pthread_t self = pthread_self(), thread;
    struct sigaction action = {.sa_handler = handle};
    sigemptyset(&none), sigemptyset(&blocked), sigaddset(&blocked, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    CHECK(pthread_create(&thread, NULL, signal_main, &self) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && handled == 0);
    CHECK(ppoll(&entry, 1, &soon, NULL) == 0 && handled == 0);
    FAILS(ppoll(&entry, 1, &soon, &none), EINTR);
    CHECK(handled == 1);
    sigset_t after;
    sigprocmask(SIG_BLOCK, NULL, &after);
    CHECK(sigismember(&after, SIGUSR1));
    CHECK(ppoll(&entry, 1, &soon, &none) == 0);
    raise(SIGUSR1);
    FAILS(pselect(0, NULL, NULL, NULL, &soon, &none), EINTR);
    CHECK(handled == 2);
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
}

static void events_count(void) {
    uint64_t value = 0;
    int event = eventfd(3, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    struct pollfd entry = {event, POLLIN | POLLOUT, 0};
    CHECK(poll(&entry, 1, 0) == 1 && entry.revents == (POLLIN | POLLOUT));
    CHECK(read(event, &value, sizeof value) == sizeof value && value == 3);
    FAILS(read(event, &value, sizeof value), EAGAIN);
    FAILS(read(event, &value, 4), EINVAL);
    value = UINT64_MAX - 1;
    CHECK(write(event, &value, sizeof value) == sizeof value);
    CHECK(poll(&entry, 1, 0) == 1 && entry.revents == POLLIN);
    value = 1;
    FAILS(write(event, &value, sizeof value), EAGAIN);
    value = UINT64_MAX;
    FAILS(write(event, &value, sizeof value), EINVAL);
    for (int i = 0; i < 2; i++)
        CHECK(read(semaphore, &value, sizeof value) == sizeof value && value == 1);
    FAILS(read(semaphore, &value, sizeof value), EAGAIN);
    close(event), close(semaphore);
}

static void timers_ring(void) {
    uint64_t rings = 0;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec set = {{0, 5 * MILLISECOND}, {0, 10 * MILLISECOND}}, left;
    struct pollfd entry = {timer, POLLIN, 0};
    long long start = now();
    CHECK(timerfd_settime(timer, 0, &set, NULL) == 0);
    FAILS(read(timer, &rings, sizeof rings), EAGAIN);
    CHECK(timerfd_gettime(timer, &left) == 0 && left.it_value.tv_nsec > 0);
    CHECK(left.it_interval.tv_nsec == 5 * MILLISECOND);
    CHECK(poll(&entry, 1, -1) == 1 && now() - start >= 10 * MILLISECOND);
    CHECK(read(timer, &rings, sizeof rings) == sizeof rings && rings >= 1);
    CHECK(fcntl(timer, F_SETFL, 0) == 0);
    CHECK(read(timer, &rings, sizeof rings) == sizeof rings && now() - start >= 15 * MILLISECOND);
    set = (struct itimerspec){{0, 0}, {0, 0}};
    CHECK(timerfd_settime(timer, 0, &set, NULL) == 0 && poll(&entry, 1, 0) == 0);
    set.it_value.tv_sec = 1; /* long ago */
    CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &set, NULL) == 0 && poll(&entry, 1, -1) == 1);
    close(timer);
}

static void watch(int set, int operation, int file, uint32_t events) {
    struct epoll_event event = {events, {.fd = file}};
    CHECK(epoll_ctl(set, operation, file, &event) == 0);
}

static void epoll_reports_levels(void) {
    struct epoll_event found[4], event = {EPOLLIN, {.fd = ends[0]}};
    int set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(fcntl(set, F_GETFD) == FD_CLOEXEC);
    watch(set, EPOLL_CTL_ADD, ends[0], EPOLLIN);
    FAILS(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event), EEXIST);
    FAILS(epoll_ctl(set, EPOLL_CTL_MOD, ends[1], &event), ENOENT);
    FAILS(epoll_ctl(set, EPOLL_CTL_ADD, set, &event), EINVAL);
    FAILS(epoll_ctl(set, EPOLL_CTL_ADD, 999, &event), EBADF);
    int file = open("/proc/self/stat", O_RDONLY);
    FAILS(epoll_ctl(set, EPOLL_CTL_ADD, file, &event), EPERM);
    close(file);
    CHECK(epoll_wait(set, found, 4, 0) == 0 && epoll_wait(set, found, 4, 5) == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    for (int i = 0; i < 2; i++)
        CHECK(epoll_wait(set, found, 4, -1) == 1 && found[0].data.fd == ends[0]);
    CHECK(found[0].events == EPOLLIN);
    drain(ends[0]);
    CHECK(epoll_wait(set, found, 4, 0) == 0);
    FAILS(epoll_wait(set, found, 0, 0), EINVAL);
    FAILS(epoll_wait(ends[0], found, 4, 0), EINVAL);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL) == 0);
    CHECK(write(ends[1], "x", 1) == 1 && epoll_wait(set, found, 4, 0) == 0);
    drain(ends[0]);
    close(set);
}

static void epoll_reports_edges_and_single_shots(void) {
    struct epoll_event found[4];
    int set = epoll_create1(0);
    watch(set, EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLET);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(epoll_wait(set, found, 4, 0) == 1 && epoll_wait(set, found, 4, 0) == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(epoll_wait(set, found, 4, 0) == 1 && epoll_wait(set, found, 4, 0) == 0);
    watch(set, EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT);
    CHECK(epoll_wait(set, found, 4, 0) == 1 && epoll_wait(set, found, 4, 0) == 0);
    watch(set, EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT);
    CHECK(epoll_wait(set, found, 4, 0) == 1);
    drain(ends[0]), drain(ends[0]);
    close(set);
}

static void a_closed_file_is_watched_no_more(void) {
    struct epoll_event found[4];
    int set = epoll_create1(0), other[2];
    CHECK(pipe(other) == 0);
    watch(set, EPOLL_CTL_ADD, other[0], EPOLLIN);
    CHECK(write(other[1], "x", 1) == 1 && epoll_wait(set, found, 4, 0) == 1);
    int copy = dup(other[0]);
    close(other[0]);
    CHECK(epoll_wait(set, found, 4, 0) == 1); /* the file is still open */
    close(copy);
    CHECK(epoll_wait(set, found, 4, 0) == 0);
    close(other[1]), close(set);
}

static void epolls_watch_epolls(void) {
    struct epoll_event found[4], event = {EPOLLIN, {.u32 = 0}};
    int inner = epoll_create1(0), outer = epoll_create1(0);
    pthread_t thread;
    watch(inner, EPOLL_CTL_ADD, ends[0], EPOLLIN);
    watch(outer, EPOLL_CTL_ADD, inner, EPOLLIN);
    FAILS(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &event), ELOOP);
    CHECK(epoll_wait(outer, found, 4, 0) == 0);
    CHECK(pthread_create(&thread, NULL, write_one, &ends[1]) == 0);
    CHECK(epoll_wait(outer, found, 4, -1) == 1 && found[0].data.fd == inner);
    CHECK(epoll_wait(inner, found, 4, 0) == 1 && found[0].data.fd == ends[0]);
    CHECK(pthread_join(thread, NULL) == 0);
    drain(ends[0]);
    close(inner), close(outer);
}

static void *add_later(void *set) {
    watch(*(int *)set, EPOLL_CTL_ADD, ends[1], EPOLLOUT);
    return NULL;
}

static void what_is_added_ends_a_wait(void) {
    struct epoll_event found[4];
    int set = epoll_create1(0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, add_later, &set) == 0);
    CHECK(epoll_wait(set, found, 4, -1) == 1 && found[0].data.fd == ends[1]);
    CHECK(pthread_join(thread, NULL) == 0);
    close(set);
}

int main(void) {
    CHECK(pipe(ends) == 0);
    poll_tells_what_is_ready();
    waits_end_in_time();
    another_thread_ends_the_wait();
    select_asks_three_questions();
    a_signal_ends_only_the_wait_that_lets_it();
    events_count();
    timers_ring();
    epoll_reports_levels();
    epoll_reports_edges_and_single_shots();
    a_closed_file_is_watched_no_more();
    epolls_watch_epolls();
    what_is_added_ends_a_wait();
    return done();
}
