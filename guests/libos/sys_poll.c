/* sys_poll.c: poll, ppoll, select and pselect6. */
#include <linux/time.h>
#include "process.h"
#include "sys.h"

/* Bits of poll(2) that stand for select's three sets, select(2), NOTES. */
#define SELECT_IN (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EXCEPT POLLPRI
#define WORD_BITS 64

struct poll_request {
    struct pollfd *entries;
    size_t count;
};

static long scan_entries(void *context, struct poll_set *set) {
    struct poll_request *request = context;
    long found = 0;
    for (size_t i = 0; i < request->count; i++) {
        struct pollfd *entry = &request->entries[i];
        struct file *file = file_of(entry->fd);
        entry->revents = 0;
        if (file) {
            entry->revents =
                file_poll(file, entry->events, set) & (entry->events | POLLERR | POLLHUP);
            file_close(file);
        } else if (entry->fd >= 0) {
            entry->revents = POLLNVAL;
        }
        found += entry->revents != 0;
    }
    return found;
}

/* The deadline of a timeout; a NULL one never ends. */
static long deadline_of(const struct __kernel_timespec *timeout, int64_t *deadline_ns) {
    *deadline_ns = INT64_MAX;
    if (!timeout)
        return 0;
    int64_t ns = time_from_user(timeout);
    if (ns < 0)
        return ns;
    *deadline_ns = ns ? deadline_after(ns) : 0;
    return 0;
}

static long poll_user(uint64_t address, uint64_t count, int64_t deadline_ns) {
    struct poll_request request = {(struct pollfd *)address, count};
    if (count > DESCRIPTOR_LIMIT)
        return -EINVAL;
    if (!user_range_ok(request.entries, count * sizeof(*request.entries)))
        return -EFAULT;
    return poll_until(scan_entries, &request, deadline_ns);
}

long sys_poll(const struct syscall_arguments *arguments) {
    int timeout_ms = arguments->a[2];
    int64_t deadline_ns = timeout_ms < 0   ? INT64_MAX
                          : timeout_ms > 0 ? deadline_after(timeout_ms * 1000000LL)
                                           : 0;
    return poll_user(arguments->a[0], arguments->a[1], deadline_ns);
}

long sys_ppoll(const struct syscall_arguments *arguments) {
    int64_t deadline_ns;
    long error = deadline_of((void *)arguments->a[2], &deadline_ns);
    if (error == 0)
        error = poll_mask(arguments->a[3], arguments->a[4]);
    if (error)
        return error;
    return poll_unmask(poll_user(arguments->a[0], arguments->a[1], deadline_ns));
}

/* ---- select ---------------------------------------------------------------------------------- */
struct select_sets {
    int count;
    uint64_t *sets[3]; /* NULL: not asked for */
};
static const short set_events[3] = {SELECT_IN, SELECT_OUT, SELECT_EXCEPT};

static bool set_has(const uint64_t *set, int descriptor) {
    return set && (set[descriptor / WORD_BITS] >> descriptor % WORD_BITS & 1);
}

/* One entry for every descriptor in a set; -EBADF if one of them is not open. */
static long entries_fill(const struct select_sets *select, struct pollfd *entries, size_t *count) {
    for (int descriptor = 0; descriptor < select->count; descriptor++) {
        short events = 0;
        for (int i = 0; i < 3; i++)
            events |= set_has(select->sets[i], descriptor) ? set_events[i] : 0;
        if (events == 0)
            continue;
        if (descriptor_flag(descriptor) < 0)
            return -EBADF;
        entries[(*count)++] = (struct pollfd){.fd = descriptor, .events = events};
    }
    return 0;
}

static long sets_fill(const struct select_sets *select, const struct poll_request *request) {
    long found = 0;
    uint64_t had[3][DESCRIPTOR_LIMIT / WORD_BITS] = {{0}};
    size_t words = (select->count + WORD_BITS - 1) / WORD_BITS;
    for (int i = 0; i < 3; i++)
        if (select->sets[i]) {
            memcpy(had[i], select->sets[i], words * sizeof(uint64_t));
            memset(select->sets[i], 0, words * sizeof(uint64_t));
        }
    for (size_t n = 0; n < request->count; n++)
        for (int i = 0; i < 3; i++) {
            int descriptor = request->entries[n].fd;
            if (!set_has(had[i], descriptor) || !(request->entries[n].revents & set_events[i]))
                continue;
            select->sets[i][descriptor / WORD_BITS] |= 1UL << descriptor % WORD_BITS;
            found++;
        }
    return found;
}

static long select_wait(const struct select_sets *select, int64_t deadline_ns) {
    struct poll_request request = {heap_alloc(select->count * sizeof(struct pollfd) + 1), 0};
    if (!request.entries)
        return -ENOMEM;
    long result = entries_fill(select, request.entries, &request.count);
    if (result == 0)
        result = poll_until(scan_entries, &request, deadline_ns);
    if (result >= 0)
        result = sets_fill(select, &request);
    heap_free(request.entries);
    return result;
}

static long select_user(const struct syscall_arguments *arguments, int64_t deadline_ns) {
    struct select_sets select = {.count = arguments->a[0]};
    if (select.count < 0)
        return -EINVAL;
    if (select.count > DESCRIPTOR_LIMIT)
        select.count = DESCRIPTOR_LIMIT;
    for (int i = 0; i < 3; i++) {
        select.sets[i] = (uint64_t *)arguments->a[1 + i];
        size_t size = (select.count + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
        if (select.sets[i] && !user_range_ok(select.sets[i], size))
            return -EFAULT;
    }
    return select_wait(&select, deadline_ns);
}

/* How much of a timeout is left. */
static int64_t left_until(int64_t deadline_ns) {
    int64_t left = deadline_ns - clock_monotonic_ns();
    return left > 0 ? left : 0;
}

long sys_select(const struct syscall_arguments *arguments) {
    struct __kernel_old_timeval *timeout = (void *)arguments->a[4];
    int64_t deadline_ns = INT64_MAX;
    if (timeout) {
        if (!user_range_ok(timeout, sizeof(*timeout)))
            return -EFAULT;
        if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
            return -EINVAL;
        struct __kernel_timespec value = {timeout->tv_sec + timeout->tv_usec / 1000000,
                                          timeout->tv_usec % 1000000 * 1000};
        long error = deadline_of(&value, &deadline_ns);
        if (error)
            return error;
    }
    long result = select_user(arguments, deadline_ns);
    if (timeout) {
        int64_t left = left_until(deadline_ns);
        *timeout = (struct __kernel_old_timeval){left / NANOSECONDS, left % NANOSECONDS / 1000};
    }
    return result;
}

long sys_pselect6(const struct syscall_arguments *arguments) {
    struct __kernel_timespec *timeout = (void *)arguments->a[4];
    const uint64_t *mask = (const uint64_t *)arguments->a[5]; /* address and size of the mask */
    int64_t deadline_ns;
    if (mask && !user_range_ok(mask, 2 * sizeof(*mask)))
        return -EFAULT;
    long error = deadline_of(timeout, &deadline_ns);
    if (error == 0 && mask)
        error = poll_mask(mask[0], mask[1]);
    if (error)
        return error;
    long result = poll_unmask(select_user(arguments, deadline_ns));
    if (timeout) {
        int64_t left = left_until(deadline_ns);
        *timeout = (struct __kernel_timespec){left / NANOSECONDS, left % NANOSECONDS};
    }
    return result;
}
