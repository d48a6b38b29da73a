/* epoll.c: sets of files that are watched for as long as they are open, epoll(7). */
#include <linux/eventpoll.h>
#include "process.h"
#include "sys.h"

#define ALWAYS (EPOLLERR | EPOLLHUP)
#define DEPTH_LIMIT 5 /* of epoll files inside epoll files, epoll_ctl(2) */

struct epoll_interest {
    struct epoll *epoll;
    struct file *file; /* not counted: epoll_forget comes before it goes */
    struct epoll_interest *next_of_file;
    int descriptor;
    uint32_t events;
    uint64_t data;
    uint64_t reported; /* poll_set.changes at the last report, for EPOLLET */
    bool is_fresh;     /* never reported */
};

struct epoll {
    struct epoll_interest **interests;
    size_t count, room;
    size_t start;               /* where the next scan begins, so that nobody starves */
    struct readiness readiness; /* of the set itself */
};

static const struct file_operations epoll_operations;

static struct epoll *epoll_of(const struct file *file) { return file->data; }

/* ---- the set --------------------------------------------------------------------------------- */
static long interest_find(const struct epoll *epoll, const struct file *file, int descriptor) {
    for (size_t i = 0; i < epoll->count; i++)
        if (epoll->interests[i]->file == file && epoll->interests[i]->descriptor == descriptor)
            return i;
    return -ENOENT;
}

static void interest_remove(struct epoll *epoll, size_t index) {
    struct epoll_interest *interest = epoll->interests[index], **link = &interest->file->watchers;
    while (*link != interest)
        link = &(*link)->next_of_file;
    *link = interest->next_of_file;
    epoll->interests[index] = epoll->interests[--epoll->count];
    heap_free(interest);
}

void epoll_forget(struct file *file) {
    while (file->watchers) {
        struct epoll *epoll = file->watchers->epoll;
        interest_remove(epoll, interest_find(epoll, file, file->watchers->descriptor));
    }
}

static long interest_add(struct epoll *epoll, struct file *file, int descriptor) {
    if (epoll->count == epoll->room) {
        size_t room = epoll->room ? epoll->room * 2 : 8;
        void *grown = heap_resize(epoll->interests, room * sizeof(*epoll->interests));
        if (!grown)
            return -ENOMEM;
        epoll->interests = grown;
        epoll->room = room;
    }
    struct epoll_interest *interest = heap_alloc(sizeof(*interest));
    if (!interest)
        return -ENOMEM;
    *interest = (struct epoll_interest){
        .epoll = epoll, .file = file, .next_of_file = file->watchers, .descriptor = descriptor};
    file->watchers = interest;
    epoll->interests[epoll->count++] = interest;
    return 0;
}

/* ---- scanning -------------------------------------------------------------------------------- */
/* What of an interest is to be told now. */
static uint32_t interest_events(struct epoll_interest *interest, struct poll_set *set,
                                uint64_t *changes) {
    uint64_t before = set->changes;
    uint32_t wanted = interest->events & ~(EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP);
    if (interest->events == EPOLLONESHOT)
        return 0; /* reported once, not armed again */
    uint32_t events = file_poll(interest->file, wanted, set) & (wanted | ALWAYS);
    *changes = set->changes - before;
    bool is_old = !interest->is_fresh && *changes == interest->reported;
    return (interest->events & EPOLLET) && is_old ? 0 : events;
}

static unsigned epoll_poll(struct file *file, struct poll_set *set) {
    struct epoll *epoll = epoll_of(file);
    uint64_t changes;
    unsigned ready = 0;
    poll_add(set, &epoll->readiness);
    for (size_t i = 0; i < epoll->count; i++)
        if (interest_events(epoll->interests[i], set, &changes))
            ready = POLLIN | POLLRDNORM;
    return ready;
}

struct epoll_request {
    struct epoll *epoll;
    struct epoll_event *events;
    long limit;
};

static long scan_interests(void *context, struct poll_set *set) {
    struct epoll_request *request = context;
    struct epoll *epoll = request->epoll;
    long found = 0;
    poll_add(set, &epoll->readiness);
    for (size_t i = 0; i < epoll->count && found < request->limit; i++) {
        struct epoll_interest *interest = epoll->interests[(epoll->start + i) % epoll->count];
        uint64_t changes;
        uint32_t events = interest_events(interest, set, &changes);
        if (!events)
            continue;
        interest->reported = changes;
        interest->is_fresh = false;
        if (interest->events & EPOLLONESHOT)
            interest->events = EPOLLONESHOT;
        request->events[found++] = (struct epoll_event){events, interest->data};
    }
    epoll->start += found;
    return found;
}

static void epoll_close(struct file *file) {
    struct epoll *epoll = epoll_of(file);
    while (epoll->count)
        interest_remove(epoll, epoll->count - 1);
    heap_free(epoll->interests);
    heap_free(epoll);
}

static const struct file_operations epoll_operations = {
    .poll = epoll_poll,
    .close = epoll_close,
};

/* ---- syscalls -------------------------------------------------------------------------------- */
static long epoll_make(int flags) {
    struct epoll *epoll = heap_alloc(sizeof(*epoll));
    if (!epoll)
        return -ENOMEM;
    struct file *file = file_new(&epoll_operations, O_RDWR, "anon_inode:[eventpoll]", epoll);
    if (file)
        return descriptor_open(file, flags);
    heap_free(epoll);
    return -ENOMEM;
}

long sys_epoll_create(const struct syscall_arguments *arguments) {
    return (int)arguments->a[0] > 0 ? epoll_make(0) : -EINVAL;
}

long sys_epoll_create1(const struct syscall_arguments *arguments) {
    return arguments->a[0] & ~(uint64_t)EPOLL_CLOEXEC ? -EINVAL : epoll_make(arguments->a[0]);
}

static struct file *epoll_file(int descriptor, long *error) {
    struct file *file = file_of(descriptor);
    *error = !file ? -EBADF : file->operations == &epoll_operations ? 0 : -EINVAL;
    if (!file || *error == 0)
        return file;
    file_close(file);
    return NULL;
}

/* -ELOOP if a watched file leads back to `epoll` or too deep. */
static long epoll_check(const struct file *watched, const struct epoll *epoll, int depth) {
    if (watched->operations != &epoll_operations)
        return 0;
    const struct epoll *inner = epoll_of(watched);
    if (inner == epoll || depth == DEPTH_LIMIT)
        return -ELOOP;
    for (size_t i = 0; i < inner->count; i++)
        if (epoll_check(inner->interests[i]->file, epoll, depth + 1) != 0)
            return -ELOOP;
    return 0;
}

static long epoll_add(struct epoll *epoll, struct file *file, int descriptor) {
    if (interest_find(epoll, file, descriptor) >= 0)
        return -EEXIST;
    if (!file->operations->poll)
        return -EPERM; /* epoll_ctl(2): a file that is always ready */
    long error = epoll_check(file, epoll, 0);
    return error ? error : interest_add(epoll, file, descriptor);
}

static long epoll_change(struct epoll *epoll, int operation, struct file *file, int descriptor,
                         const struct epoll_event *event) {
    if (operation == EPOLL_CTL_ADD) {
        long error = epoll_add(epoll, file, descriptor);
        if (error)
            return error;
    } else if (operation != EPOLL_CTL_MOD && operation != EPOLL_CTL_DEL) {
        return -EINVAL;
    }
    long index = interest_find(epoll, file, descriptor);
    if (index < 0)
        return index;
    if (operation == EPOLL_CTL_DEL) {
        interest_remove(epoll, index);
        return 0;
    }
    struct epoll_interest *interest = epoll->interests[index];
    interest->events = event->events;
    interest->data = event->data;
    interest->is_fresh = true;
    readiness_changed(&epoll->readiness);
    return 0;
}

long sys_epoll_ctl(const struct syscall_arguments *arguments) {
    struct epoll_event event = {0};
    int descriptor = arguments->a[2];
    long error;
    if (arguments->a[1] != EPOLL_CTL_DEL) {
        if (!user_range_ok((void *)arguments->a[3], sizeof event))
            return -EFAULT;
        memcpy(&event, (void *)arguments->a[3], sizeof event);
    }
    struct file *file = file_of(descriptor);
    struct file *set = epoll_file(arguments->a[0], &error);
    if (!file)
        error = -EBADF;
    else if (set)
        error = set == file
                    ? -EINVAL
                    : epoll_change(epoll_of(set), arguments->a[1], file, descriptor, &event);
    if (file)
        file_close(file);
    if (set)
        file_close(set);
    return error;
}

static long epoll_wait(const struct syscall_arguments *arguments, int64_t deadline_ns) {
    long limit = (int)arguments->a[2], result;
    if (limit <= 0)
        return -EINVAL;
    if (limit > DESCRIPTOR_LIMIT)
        limit = DESCRIPTOR_LIMIT;
    struct epoll_event *events = (struct epoll_event *)arguments->a[1];
    if (!user_range_ok(events, limit * sizeof(*events)))
        return -EFAULT;
    struct file *set = epoll_file(arguments->a[0], &result);
    if (!set)
        return result;
    struct epoll_request request = {epoll_of(set), events, limit};
    result = poll_until(scan_interests, &request, deadline_ns);
    file_close(set);
    return result;
}

static int64_t deadline_of_ms(int timeout_ms) {
    if (timeout_ms < 0)
        return INT64_MAX;
    return timeout_ms ? deadline_after(timeout_ms * 1000000LL) : 0;
}

long sys_epoll_wait(const struct syscall_arguments *arguments) {
    return epoll_wait(arguments, deadline_of_ms(arguments->a[3]));
}

long sys_epoll_pwait(const struct syscall_arguments *arguments) {
    long error = poll_mask(arguments->a[4], arguments->a[5]);
    return error ? error : poll_unmask(sys_epoll_wait(arguments));
}

long sys_epoll_pwait2(const struct syscall_arguments *arguments) {
    int64_t deadline_ns = INT64_MAX;
    if (arguments->a[3]) {
        int64_t ns = time_from_user((void *)arguments->a[3]);
        if (ns < 0)
            return ns;
        deadline_ns = ns ? deadline_after(ns) : 0;
    }
    long error = poll_mask(arguments->a[4], arguments->a[5]);
    return error ? error : poll_unmask(epoll_wait(arguments, deadline_ns));
}
