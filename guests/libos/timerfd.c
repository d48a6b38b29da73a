/* timerfd.c: timers that are read and polled like files, timerfd_create(2). */
#include <linux/time.h>
#include <linux/timerfd.h>
#include "process.h"
#include "sys.h"

struct file_timer {
    bool is_realtime;
    int64_t next_ns; /* CLOCK_MONOTONIC of the next expiry; INT64_MAX: none */
    int64_t interval_ns;
    uint64_t expired; /* not yet read */
    struct readiness readiness;
};

static struct file_timer *timer_of(const struct file *file) { return file->data; }

/* Counts what has expired by now. */
static void timer_catch_up(struct file_timer *timer) {
    int64_t now = clock_monotonic_ns();
    if (timer->next_ns > now)
        return;
    uint64_t rounds = timer->interval_ns ? (now - timer->next_ns) / timer->interval_ns + 1 : 1;
    timer->expired += rounds;
    timer->readiness.changes += rounds;
    timer->next_ns =
        timer->interval_ns ? timer->next_ns + (int64_t)rounds * timer->interval_ns : INT64_MAX;
}

static long timer_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct file_timer *timer = timer_of(file);
    (void)offset;
    if (size < sizeof timer->expired)
        return -EINVAL;
    for (;;) {
        timer_catch_up(timer);
        if (timer->expired)
            break;
        if (!file_may_block(file))
            return -EAGAIN;
        if (wait_on(&timer->readiness.queue, timer->next_ns) == -EINTR)
            return -EINTR;
    }
    memcpy(to, &timer->expired, sizeof timer->expired);
    timer->expired = 0;
    return sizeof timer->expired;
}

static unsigned timer_poll(struct file *file, struct poll_set *set) {
    struct file_timer *timer = timer_of(file);
    timer_catch_up(timer);
    poll_add(set, &timer->readiness);
    poll_add_deadline(set, timer->next_ns);
    return timer->expired ? POLLIN | POLLRDNORM : 0;
}

static void timer_close(struct file *file) { heap_free(file->data); }

static const struct file_operations timer_operations = {
    .read = timer_read,
    .poll = timer_poll,
    .close = timer_close,
};

long sys_timerfd_create(const struct syscall_arguments *arguments) {
    int clock = arguments->a[0], flags = arguments->a[1];
    if (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK) ||
        (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME))
        return -EINVAL;
    struct file_timer *timer = heap_alloc(sizeof(*timer));
    if (!timer)
        return -ENOMEM;
    *timer = (struct file_timer){.is_realtime = clock == CLOCK_REALTIME, .next_ns = INT64_MAX};
    struct file *file =
        file_new(&timer_operations, (flags & O_NONBLOCK) | O_RDWR, "anon_inode:[timerfd]", timer);
    if (file)
        return descriptor_open(file, flags);
    heap_free(timer);
    return -ENOMEM;
}

static struct file *timer_file(int descriptor, long *error) {
    struct file *file = file_of(descriptor);
    *error = !file ? -EBADF : file->operations == &timer_operations ? 0 : -EINVAL;
    if (!file || *error == 0)
        return file;
    file_close(file);
    return NULL;
}

static struct __kernel_timespec timespec_of(int64_t ns) {
    return (struct __kernel_timespec){ns / NANOSECONDS, ns % NANOSECONDS};
}

static long timer_give(struct file_timer *timer, uint64_t to) {
    if (!user_range_ok((void *)to, sizeof(struct __kernel_itimerspec)))
        return -EFAULT;
    timer_catch_up(timer);
    int64_t left = timer->next_ns == INT64_MAX ? 0 : timer->next_ns - clock_monotonic_ns();
    *(struct __kernel_itimerspec *)to =
        (struct __kernel_itimerspec){timespec_of(timer->interval_ns), timespec_of(left)};
    return 0;
}

static long timer_set(struct file_timer *timer, int flags, const struct __kernel_itimerspec *to) {
    int64_t interval = time_from_user(&to->it_interval), value = time_from_user(&to->it_value);
    if (interval < 0 || value < 0)
        return interval < 0 ? interval : value;
    int64_t next = deadline_after(value);
    if ((flags & TFD_TIMER_ABSTIME) && timer->is_realtime)
        next = deadline_after(value - clock_realtime_ns());
    else if (flags & TFD_TIMER_ABSTIME)
        next = value;
    timer->next_ns = value ? next : INT64_MAX;
    timer->interval_ns = interval;
    timer->expired = 0;
    readiness_changed(&timer->readiness);
    return 0;
}

long sys_timerfd_settime(const struct syscall_arguments *arguments) {
    long error;
    struct file *file = timer_file(arguments->a[0], &error);
    if (!file)
        return error;
    if (arguments->a[3])
        error = timer_give(timer_of(file), arguments->a[3]);
    if (error == 0)
        error = timer_set(timer_of(file), arguments->a[1], (void *)arguments->a[2]);
    file_close(file);
    return error;
}

long sys_timerfd_gettime(const struct syscall_arguments *arguments) {
    long error;
    struct file *file = timer_file(arguments->a[0], &error);
    if (!file)
        return error;
    error = timer_give(timer_of(file), arguments->a[1]);
    file_close(file);
    return error;
}
