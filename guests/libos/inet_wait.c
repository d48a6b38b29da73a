/* inet_wait.c: which sockets of the host are ready, and waiting for them.
 *
 * Asking the host costs an exit, so it is done for all sockets at once, and only when every task is
 * blocked, when a poll that may not wait found nothing, or after a while. What the host said holds
 * until the program uses the socket, because nobody else can.
 */
#include "inet.h"
#include "process.h"

/* How long a task that does not block keeps others from hearing of their sockets, at least; and how
 * much of the time asking may take: one part in so many. */
#define INTERVAL_NS 1000000
#define SHARE 16
#define MILLISECOND 1000000
/* Sockets the host is asked about at once. */
#define INTEREST_LIMIT 1024
/* What the host tells of any socket, asked for or not: poll(2). */
#define ALWAYS (POLLERR | POLLHUP)
/* Set in `wanted` beside events, so that there may be none. */
#define WATCHED 0x10000

int64_t sockets_due_ns = NEVER;

static struct inet_socket *all_sockets;

void inet_wait_add(struct inet_socket *socket) {
    socket->next = all_sockets;
    all_sockets = socket;
}

void inet_wait_remove(struct inet_socket *socket) {
    struct inet_socket **link = &all_sockets;
    while (*link != socket)
        link = &(*link)->next;
    *link = socket->next;
}

/* ---- what is wanted and what is ready -------------------------------------------------------- */
/* For each pair of names of one event, both bits. */
static unsigned both_names(unsigned events) {
    return (events & (POLLIN | POLLRDNORM) ? POLLIN | POLLRDNORM : 0) |
           (events & (POLLOUT | POLLWRNORM) ? POLLOUT | POLLWRNORM : 0) |
           (events & (POLLRDHUP | ALWAYS));
}

static void want(struct inet_socket *socket, unsigned events) {
    socket->wanted |= (both_names(events) & ~ALWAYS) | WATCHED;
    if (sockets_due_ns == NEVER)
        sockets_due_ns = clock_monotonic_ns() + INTERVAL_NS;
}

/* Whether there is something to ask about a socket. */
static bool is_open_question(const struct inet_socket *socket) {
    return (socket->wanted & ~socket->ready) && !(socket->ready & ALWAYS);
}

long inet_wait(struct inet_socket *socket, unsigned events, int64_t timeout_ns) {
    socket->ready &= ~both_names(events);
    if (socket->asks_names)
        socket->wanted = 0; /* answers are there at once, or never */
    else
        want(socket, events);
    long error = wait_on(&socket->readiness.queue, timeout_ns ? deadline_after(timeout_ns) : NEVER);
    return error == -ETIMEDOUT ? -EAGAIN : error;
}

unsigned inet_poll(struct file *file, struct poll_set *set) {
    struct inet_socket *socket = inet_of(file);
    unsigned arrived = socket->packets ? POLLIN | POLLRDNORM : 0;
    poll_add(set, &socket->readiness);
    if (socket->asks_names)
        return arrived | POLLOUT | POLLWRNORM;
    want(socket, set->wanted);
    set->is_unsure |= is_open_question(socket);
    return socket->ready | arrived;
}

/* ---- asking the host ------------------------------------------------------------------------- */
static bool is_asked(const struct inet_socket *socket, bool waited_for) {
    return is_open_question(socket) && (!waited_for || socket->readiness.queue.first);
}

/* Begins a request with the sockets in question; how many there are. */
static size_t put_interest(bool waited_for) {
    struct hl_json_writer *params = host_params();
    size_t count = 0;
    hl_json_key(params, "interest");
    hl_json_open(params, '[');
    for (struct inet_socket *socket = all_sockets; socket && count < INTEREST_LIMIT;
         socket = socket->next) {
        if (!is_asked(socket, waited_for))
            continue;
        hl_json_open(params, '[');
        hl_json_uint(params, socket->handle);
        hl_json_uint(params, socket->wanted & ~socket->ready & (POLLIN | POLLOUT | POLLRDHUP));
        hl_json_close(params, ']');
        count++;
    }
    hl_json_close(params, ']');
    return count;
}

static bool set_ready(struct inet_socket *socket, unsigned events) {
    if (events & POLLNVAL)
        events |= POLLERR | POLLHUP | POLLIN | POLLOUT;
    unsigned fresh = both_names(events) & ~socket->ready;
    socket->ready |= fresh;
    if (fresh)
        readiness_changed(&socket->readiness);
    return fresh;
}

static bool take_ready(struct hl_json_value result) {
    struct hl_json_value list, pair, number;
    const char *at = NULL;
    bool is_news = false;
    if (!hl_json_member(result, "ready", &list))
        return false;
    while (hl_json_next(list, &at, &pair)) {
        const char *inside = NULL;
        uint64_t handle, events;
        if (!hl_json_next(pair, &inside, &number) || !hl_json_get_uint(number, &handle) ||
            !hl_json_next(pair, &inside, &number) || !hl_json_get_uint(number, &events))
            continue;
        for (struct inet_socket *socket = all_sockets; socket; socket = socket->next)
            if (socket->handle == handle)
                is_news |= set_ready(socket, events);
    }
    return is_news;
}

/* The host does not say: whoever waits shall find out from the socket itself. */
static bool all_ready(bool waited_for) {
    bool is_news = false;
    for (struct inet_socket *socket = all_sockets; socket; socket = socket->next)
        if (is_asked(socket, waited_for))
            is_news |= set_ready(socket, POLLNVAL);
    return is_news;
}

/* Forgets what was wanted where it has come or where nobody waits: who still wants it says so. */
static void settle(int64_t asked_ns) {
    int64_t now_ns = clock_monotonic_ns(), pause_ns = (now_ns - asked_ns) * SHARE;
    sockets_due_ns = NEVER;
    for (struct inet_socket *socket = all_sockets; socket; socket = socket->next) {
        if (!socket->readiness.queue.first || (socket->wanted & socket->ready))
            socket->wanted = 0;
        if (socket->wanted)
            sockets_due_ns = now_ns + (pause_ns > INTERVAL_NS ? pause_ns : INTERVAL_NS);
    }
}

bool sockets_ask(void) {
    struct hl_json_value result;
    int64_t asked_ns = clock_monotonic_ns();
    bool is_news = false;
    if (put_interest(false)) {
        host_param_uint("timeout_ms", 0);
        long error = host_ask("net.poll", &result);
        is_news = error == 0 ? take_ready(result) : error != -EINTR && all_ready(false);
    }
    settle(asked_ns);
    return is_news;
}

/* Milliseconds until then, rounded up. */
static uint64_t milliseconds_until(int64_t deadline_ns) {
    int64_t left_ns = deadline_ns - clock_monotonic_ns();
    int64_t left = left_ns > 0 ? (left_ns - 1) / MILLISECOND + 1 : 0;
    return left < INT32_MAX ? left : INT32_MAX;
}

bool sockets_wait(int64_t deadline_ns) {
    struct hl_json_value result;
    if (!put_interest(true))
        return false;
    if (deadline_ns != NEVER)
        host_param_uint("timeout_ms", milliseconds_until(deadline_ns));
    long error = host_ask("net.poll", &result);
    if (error == 0)
        take_ready(result);
    else if (error != -EINTR) /* then the sandbox is about to be stopped */
        all_ready(true);
    settle(clock_monotonic_ns());
    return true;
}
