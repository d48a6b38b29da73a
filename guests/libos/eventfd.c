/* eventfd.c: a counter that wakes whoever polls it, eventfd(2). */
#include "sys.h"

#define EFD_SEMAPHORE 1
#define LIMIT (UINT64_MAX - 1)

struct event {
    uint64_t count;
    bool is_semaphore;
    struct readiness readiness;
};

static struct event *event_of(const struct file *file) { return file->data; }

static long event_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct event *event = event_of(file);
    (void)offset;
    if (size < sizeof event->count)
        return -EINVAL;
    while (event->count == 0) {
        if (!file_may_block(file))
            return -EAGAIN;
        long error = wait_on(&event->readiness.queue, INT64_MAX);
        if (error && event->count == 0)
            return error;
    }
    uint64_t taken = event->is_semaphore ? 1 : event->count;
    event->count -= taken;
    memcpy(to, &taken, sizeof taken);
    readiness_changed(&event->readiness);
    return sizeof taken;
}

static long event_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    struct event *event = event_of(file);
    uint64_t added;
    (void)offset;
    if (size < sizeof added)
        return -EINVAL;
    memcpy(&added, from, sizeof added);
    if (added > LIMIT)
        return -EINVAL;
    while (added > LIMIT - event->count) {
        if (!file_may_block(file))
            return -EAGAIN;
        long error = wait_on(&event->readiness.queue, INT64_MAX);
        if (error)
            return error;
    }
    event->count += added;
    readiness_changed(&event->readiness);
    return sizeof added;
}

static unsigned event_poll(struct file *file, struct poll_set *set) {
    struct event *event = event_of(file);
    poll_add(set, &event->readiness);
    return (event->count > 0 ? POLLIN | POLLRDNORM : 0) |
           (event->count < LIMIT ? POLLOUT | POLLWRNORM : 0);
}

static void event_close(struct file *file) { heap_free(file->data); }

static const struct file_operations event_operations = {
    .read = event_read,
    .write = event_write,
    .poll = event_poll,
    .close = event_close,
};

static long event_make(uint32_t count, int flags) {
    if (flags & ~(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    struct event *event = heap_alloc(sizeof(*event));
    if (!event)
        return -ENOMEM;
    *event = (struct event){.count = count, .is_semaphore = flags & EFD_SEMAPHORE};
    struct file *file =
        file_new(&event_operations, (flags & O_NONBLOCK) | O_RDWR, "anon_inode:[eventfd]", event);
    if (file)
        return descriptor_open(file, flags);
    heap_free(event);
    return -ENOMEM;
}

long sys_eventfd(const struct syscall_arguments *arguments) {
    return event_make(arguments->a[0], 0);
}

long sys_eventfd2(const struct syscall_arguments *arguments) {
    return event_make(arguments->a[0], arguments->a[1]);
}
