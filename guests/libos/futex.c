/* futex.c: futex(2). An address stands for itself: there is one process and one address space. */
#include <linux/futex.h>
#include <linux/time_types.h>
#include "process.h"

#define BUCKETS 64
/* Robust lists longer than this are taken for loops, as Linux does (ROBUST_LIST_LIMIT). */
#define LONGEST_LIST 2048

struct waiter {
    struct wait_node node; /* first: a node of a bucket is a waiter */
    uint64_t address;
    uint32_t bits;
};

static struct wait_queue buckets[BUCKETS];

static struct wait_queue *bucket_of(uint64_t address) {
    return &buckets[(address >> 2 ^ address >> 12) % BUCKETS];
}

/* Who has waited longest at the address for one of the bits, or NULL. */
static struct waiter *find_waiter(uint64_t address, uint32_t bits) {
    struct wait_queue *bucket = bucket_of(address);
    for (struct wait_node *at = bucket->first; at;) {
        struct waiter *waiter = (struct waiter *)at;
        if (waiter->address == address && waiter->bits & bits)
            return waiter;
        at = at->next == bucket->first ? NULL : at->next;
    }
    return NULL;
}

long futex_wake(uint64_t address, long count, uint32_t bits) {
    long woken = 0;
    struct waiter *waiter;
    while (woken < count && (waiter = find_waiter(address, bits))) {
        wait_remove(&waiter->node);
        task_wake(waiter->node.task, 0);
        woken++;
    }
    return woken;
}

static long futex_wait(uint64_t address, uint32_t expected, uint32_t bits, int64_t deadline_ns) {
    if (!bits)
        return -EINVAL;
    if (*(volatile uint32_t *)address != expected)
        return -EAGAIN;
    struct waiter waiter = {.address = address, .bits = bits};
    wait_join(&waiter.node, bucket_of(address));
    return wait_blocked(&waiter.node, 1, deadline_ns);
}

/* Moves up to `count` waiters to another address. */
static long requeue(uint64_t from, uint64_t to, long count) {
    long moved = 0;
    struct waiter *waiter;
    while (from != to && moved < count && (waiter = find_waiter(from, UINT32_MAX))) {
        struct task *task = waiter->node.task;
        wait_remove(&waiter->node);
        waiter->address = to;
        wait_join(&waiter->node, bucket_of(to));
        waiter->node.task = task;
        moved++;
    }
    return moved;
}

/* ---- FUTEX_WAKE_OP: changes *second, wakes at the first address and perhaps at the second ---- */
static long change_word(uint32_t *word, uint32_t code, uint32_t *old) {
    uint32_t operation = code >> 28, operand = code >> 12 & 0xfff;
    if (operation & FUTEX_OP_OPARG_SHIFT)
        operand = 1U << (operand & 31);
    *old = *word;
    switch (operation & 7) {
    case FUTEX_OP_SET: *word = operand; return 0;
    case FUTEX_OP_ADD: *word += operand; return 0;
    case FUTEX_OP_OR: *word |= operand; return 0;
    case FUTEX_OP_ANDN: *word &= ~operand; return 0;
    case FUTEX_OP_XOR: *word ^= operand; return 0;
    }
    return -ENOSYS;
}

static bool compare_word(uint32_t code, int32_t old) {
    int32_t operand = (int32_t)(code << 20) >> 20;
    switch (code >> 24 & 15) {
    case FUTEX_OP_CMP_EQ: return old == operand;
    case FUTEX_OP_CMP_NE: return old != operand;
    case FUTEX_OP_CMP_LT: return old < operand;
    case FUTEX_OP_CMP_LE: return old <= operand;
    case FUTEX_OP_CMP_GT: return old > operand;
    default: return old >= operand;
    }
}

static long wake_op(uint64_t first, uint64_t second, long count, long second_count, uint32_t code) {
    uint32_t old;
    long error = change_word((uint32_t *)second, code, &old);
    if (error)
        return error;
    long woken = futex_wake(first, count, UINT32_MAX);
    return compare_word(code, (int32_t)old) ? woken + futex_wake(second, second_count, UINT32_MAX)
                                            : woken;
}

/* ---- the system call ------------------------------------------------------------------------- */
/* When a wait ends: FUTEX_WAIT's time is relative, FUTEX_WAIT_BITSET's absolute. */
static int64_t wait_deadline(const struct __kernel_timespec *time, int command, bool realtime) {
    if (!time)
        return NEVER;
    int64_t ns = time_from_user(time);
    if (ns < 0 || ns == NEVER)
        return ns;
    if (command == FUTEX_WAIT)
        return deadline_after(ns);
    if (!realtime)
        return ns;
    int64_t now_ns = clock_realtime_ns();
    return ns <= now_ns ? 0 : deadline_after(ns - now_ns);
}

static bool word_ok(uint64_t address) { return user_range_ok((void *)address, sizeof(uint32_t)); }

static long two_words(const struct syscall_arguments *arguments, int command) {
    uint64_t first = arguments->a[0], second = arguments->a[4];
    int32_t count = (int32_t)arguments->a[2], second_count = (int32_t)arguments->a[3];
    if (second & 3 || count < 0 || second_count < 0)
        return -EINVAL;
    if (!word_ok(second))
        return -EFAULT;
    if (command == FUTEX_WAKE_OP)
        return wake_op(first, second, count, second_count, (uint32_t)arguments->a[5]);
    if (command == FUTEX_CMP_REQUEUE && *(uint32_t *)first != (uint32_t)arguments->a[5])
        return -EAGAIN;
    long woken = futex_wake(first, count, UINT32_MAX), moved = requeue(first, second, second_count);
    return command == FUTEX_CMP_REQUEUE ? woken + moved : woken;
}

long sys_futex(const struct syscall_arguments *arguments) {
    uint64_t address = arguments->a[0];
    int command = (int)arguments->a[1] & FUTEX_CMD_MASK;
    bool realtime = arguments->a[1] & FUTEX_CLOCK_REALTIME;
    uint32_t value = (uint32_t)arguments->a[2];
    uint32_t bits =
        command == FUTEX_WAIT || command == FUTEX_WAKE ? UINT32_MAX : (uint32_t)arguments->a[5];
    if (address & 3)
        return -EINVAL;
    if (!word_ok(address))
        return -EFAULT;
    switch (command) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET: {
        int64_t deadline_ns =
            wait_deadline((const struct __kernel_timespec *)arguments->a[3], command, realtime);
        return deadline_ns < 0 ? deadline_ns : futex_wait(address, value, bits, deadline_ns);
    }
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
        return bits ? futex_wake(address, (int32_t)value > 0 ? (int32_t)value : 1, bits) : -EINVAL;
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP: return two_words(arguments, command);
    }
    return -ENOSYS;
}

/* ---- what a task leaves behind --------------------------------------------------------------- */
/* Marks a lock whose owner died and wakes one that waits for it; get_robust_list(2) and
 * linux/futex.h describe list and word. */
static void release_robust(const struct task *task, uint64_t address) {
    uint32_t *word = (uint32_t *)address;
    if (address & 3 || !word_ok(address) || (*word & FUTEX_TID_MASK) != (uint32_t)task->id)
        return;
    bool waited_for = *word & FUTEX_WAITERS;
    *word = (*word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (waited_for)
        futex_wake(address, 1, UINT32_MAX);
}

static void walk_robust_list(const struct task *task) {
    const struct robust_list_head *head = (const struct robust_list_head *)task->robust_list;
    if (!head || !user_range_ok(head, sizeof *head))
        return;
    uint64_t pending = (uint64_t)head->list_op_pending & ~1UL;
    uint64_t entry = (uint64_t)head->list.next & ~1UL;
    uint64_t offset = (uint64_t)head->futex_offset;
    for (int i = 0; i < LONGEST_LIST && entry != (uint64_t)&head->list; i++) {
        if (!user_range_ok((void *)entry, sizeof(struct robust_list)))
            return;
        /* Waking may not change the list, but the lock is free from then on: read first. */
        uint64_t next = (uint64_t)((struct robust_list *)entry)->next & ~1UL;
        if (entry != pending)
            release_robust(task, entry + offset);
        entry = next;
    }
    if (pending)
        release_robust(task, pending + offset);
}

void futex_task_exit(struct task *task) {
    walk_robust_list(task);
    uint32_t *word = (uint32_t *)task->clear_on_exit;
    if (!word || !word_ok((uint64_t)word))
        return;
    *word = 0;
    futex_wake((uint64_t)word, 1, UINT32_MAX);
}

long sys_set_robust_list(const struct syscall_arguments *arguments) {
    if (arguments->a[1] != sizeof(struct robust_list_head))
        return -EINVAL;
    current->robust_list = arguments->a[0];
    return 0;
}

long sys_get_robust_list(const struct syscall_arguments *arguments) {
    const struct task *task = arguments->a[0] ? task_find((int)arguments->a[0]) : current;
    uint64_t *head = (uint64_t *)arguments->a[1];
    size_t *size = (size_t *)arguments->a[2];
    if (!task)
        return -ESRCH;
    if (!user_range_ok(head, sizeof *head) || !user_range_ok(size, sizeof *size))
        return -EFAULT;
    *head = task->robust_list;
    *size = sizeof(struct robust_list_head);
    return 0;
}
