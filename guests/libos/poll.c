/* poll.c: waiting for files: the loop under poll, select and epoll. */
#include "process.h"
#include "socket.h"

void readiness_changed(struct readiness *readiness) {
    readiness->changes++;
    wake_all(&readiness->queue);
}

/* ---- gathering ------------------------------------------------------------------------------- */
/* Room for one more element of an array; NULL when memory is out. */
static void *array_reach(void *array, size_t count, size_t *room, size_t element) {
    if (count < *room)
        return array;
    size_t wanted = *room ? *room * 2 : 8;
    void *grown = heap_resize(array, wanted * element);
    if (grown)
        *room = wanted;
    return grown;
}

void poll_add(struct poll_set *set, struct readiness *readiness) {
    set->changes += readiness->changes;
    void *reached =
        array_reach(set->queues, set->queue_count, &set->queue_room, sizeof(*set->queues));
    if (!reached) {
        set->failed = true;
        return;
    }
    set->queues = reached;
    set->queues[set->queue_count++] = &readiness->queue;
}

void poll_add_deadline(struct poll_set *set, int64_t deadline_ns) {
    if (deadline_ns < set->deadline_ns)
        set->deadline_ns = deadline_ns;
}

/* A file must outlive the wait on its queues, whoever closes it meanwhile. */
static void poll_hold(struct poll_set *set, struct file *file) {
    void *reached = array_reach(set->files, set->file_count, &set->file_room, sizeof(*set->files));
    if (!reached) {
        set->failed = true;
        return;
    }
    set->files = reached;
    set->files[set->file_count++] = file_hold(file);
}

unsigned file_poll(struct file *file, unsigned wanted, struct poll_set *set) {
    if (!file->operations->poll)
        return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
    poll_hold(set, file);
    set->wanted = wanted;
    return set->failed ? 0 : file->operations->poll(file, set);
}

static void poll_forget(struct poll_set *set) {
    for (size_t i = 0; i < set->file_count; i++)
        file_close(set->files[i]);
    set->file_count = set->queue_count = 0;
    set->changes = 0;
    set->is_unsure = false;
}

/* ---- the loop -------------------------------------------------------------------------------- */
static long poll_once(struct poll_set *set, poll_scan *scan, void *context, int64_t deadline_ns) {
    set->deadline_ns = deadline_ns;
    long found = scan(context, set);
    if (found)
        return found;
    if (deadline_ns <= clock_monotonic_ns())
        return set->is_unsure && sockets_ask() ? -EAGAIN : 0;
    if (set->failed)
        return -ENOMEM;
    long error = wait_on_any(set->queues, set->queue_count, set->deadline_ns);
    return error == -EINTR ? -EINTR : -EAGAIN;
}

long poll_until(poll_scan *scan, void *context, int64_t deadline_ns) {
    struct poll_set set = {0};
    long result;
    do {
        result = poll_once(&set, scan, context, deadline_ns);
        poll_forget(&set);
    } while (result == -EAGAIN);
    heap_free(set.files);
    heap_free(set.queues);
    return result;
}

/* ---- signal masks ---------------------------------------------------------------------------- */
long poll_mask(uint64_t address, uint64_t size) {
    const signal_set *mask = (const signal_set *)address;
    if (!mask)
        return 0;
    if (size != sizeof *mask)
        return -EINVAL;
    if (!user_range_ok(mask, sizeof *mask))
        return -EFAULT;
    current->signals.saved = current->signals.blocked;
    current->signals.has_saved = true;
    current->signals.blocked = *mask & ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    return 0;
}

long poll_unmask(long result) {
    /* After -EINTR the handler runs first, under the temporary mask; its delivery ends the mask. */
    if (result != -EINTR && current->signals.has_saved) {
        current->signals.blocked = current->signals.saved;
        current->signals.has_saved = false;
    }
    return result;
}
