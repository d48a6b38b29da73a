/* task.c: tasks and which of them runs. Nobody is preempted inside the library OS. */
#include <linux/rseq.h>
#include "ports.h"
#include "process.h"
#include "socket.h"

#define KERNEL_STACK_SIZE 0x8000
/* How long a task may go from syscall to syscall while others could run. */
#define SLICE_NS 10000000

struct task *current;
struct task *all_tasks;
uint64_t kernel_stack;
size_t vectors_size;
uint64_t vectors_features;

static struct task first_task = {.id = PROCESS_ID, .name = "main"};
static struct task *run_first, *run_last; /* runnable, but for the current one */
static int last_id = PROCESS_ID;
static int count;
static int64_t slice_start_ns;      /* of the current task */
static int64_t earliest_ns = NEVER; /* no blocked task's deadline is before this */
static int64_t ended_cpu_ns;        /* of tasks that are gone */
static struct task *graveyard;      /* ended, but for freeing what they stood on */

/* ---- vector registers ------------------------------------------------------------------------ */
#define CPUID_XSAVE 0xd
#define XSAVE_LEGACY_SIZE 576
/* x87, SSE, AVX, AVX-512. Where ring 3 runs on the host's own XCR0 there may be more, such as PKRU,
 * which is the host's and must not be touched. */
#define XSAVE_FEATURES 0xe7

/* Intel SDM vol. 1, 13.4: a component's offset and size come from CPUID. */
static void vectors_init(void) {
    uint32_t leaf[4], low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    vectors_features = low & XSAVE_FEATURES;
    vectors_size = XSAVE_LEGACY_SIZE;
    unsigned last = 63 - (unsigned)__builtin_clzl(vectors_features);
    if (last < 2)
        return;
    cpuid(CPUID_XSAVE, last, leaf);
    vectors_size = leaf[0] + leaf[1];
}

void vectors_save(void *area) {
    uint32_t low = (uint32_t)vectors_features, high = (uint32_t)(vectors_features >> 32);
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

void vectors_restore(const void *area) {
    uint32_t low = (uint32_t)vectors_features, high = (uint32_t)(vectors_features >> 32);
    __asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

/* ---- making and finding ---------------------------------------------------------------------- */
int task_id(const struct task *task) { return task->id; }

int task_count(void) { return count; }

struct task *task_find(int id) {
    for (struct task *task = all_tasks; task; task = task->next)
        if (task->id == id)
            return task;
    return NULL;
}

/* Bytes of a task's kernel stack and xsave area. */
static size_t own_pages(void) {
    return KERNEL_STACK_SIZE + ((vectors_size + HL_PAGE_SIZE - 1) & ~(HL_PAGE_SIZE - 1UL));
}

static bool task_init(struct task *task) {
    /* The stack's top is where the xsave area begins, which wants 64 bytes of alignment. */
    task->stack = memory_take(own_pages());
    if (!task->stack)
        return false;
    task->vectors = task->stack + KERNEL_STACK_SIZE;
    task->registers = (struct registers *)task->vectors - 1;
    *task->registers = (struct registers){
        .cs = HL_SELECTOR_USER_CODE, .ss = HL_SELECTOR_USER_DATA, .rflags = HL_RFLAGS};
    task->next = all_tasks;
    all_tasks = task;
    count++;
    return true;
}

void tasks_init(void) {
    vectors_init();
    if (!task_init(&first_task)) {
        console_message("library OS: too little memory\n");
        guest_exit(127);
    }
    current = &first_task;
    kernel_stack = (uint64_t)(current->registers + 1);
    slice_start_ns = clock_monotonic_ns();
}

static void bury(void) {
    while (graveyard) {
        struct task *task = graveyard;
        graveyard = task->next;
        memory_give(task->stack, own_pages());
        heap_free(task->signals.details);
        if (task != &first_task)
            heap_free(task);
    }
}

struct task *task_new(void) {
    bury();
    struct task *task = heap_alloc(sizeof *task);
    if (!task || !task_init(task)) {
        heap_free(task);
        return NULL;
    }
    task->id = ++last_id;
    task->state = TASK_BLOCKED;
    task->deadline_ns = NEVER;
    task->uninterruptible = true;
    memcpy(task->name, current->name, sizeof task->name);
    /* What context_switch pops: six registers and where to go. */
    uint64_t *stack = (uint64_t *)task->registers;
    *--stack = (uint64_t)task_begin;
    task->stack_pointer = (uint64_t)(stack - 6);
    return task;
}

/* ---- switching ------------------------------------------------------------------------------- */
static void enqueue(struct task *task) {
    task->state = TASK_RUNNABLE;
    task->next_runnable = NULL;
    if (run_first)
        run_last->next_runnable = task;
    else
        run_first = task;
    run_last = task;
}

void task_start(struct task *task) {
    task->uninterruptible = false;
    enqueue(task);
}

void task_wake(struct task *task, long result) {
    if (task->state != TASK_BLOCKED)
        return;
    task->wake_result = result;
    wait_leave(task); /* nobody else shall spend a wake-up on it */
    enqueue(task);
}

/* Wakes whose deadline has passed; finds the earliest of the others. */
static void expire(int64_t now_ns) {
    timers_run();
    if (now_ns >= sockets_due_ns)
        sockets_ask();
    if (now_ns < earliest_ns)
        return;
    earliest_ns = NEVER;
    for (struct task *task = all_tasks; task; task = task->next) {
        if (task->state != TASK_BLOCKED)
            continue;
        if (task->deadline_ns <= now_ns)
            task_wake(task, -ETIMEDOUT);
        else if (task->deadline_ns < earliest_ns)
            earliest_ns = task->deadline_ns;
    }
}

void clock_idle(int64_t since_ns) { slice_start_ns += clock_monotonic_ns() - since_ns; }

/* Takes the next task off the queue, waiting in the host while there is none. */
static struct task *next_task(void) {
    for (;;) {
        int64_t now_ns = clock_monotonic_ns();
        expire(now_ns);
        struct task *task = run_first;
        if (task) {
            run_first = task->next_runnable;
            return task;
        }
        int64_t timer_ns = timers_deadline();
        int64_t until_ns = timer_ns < earliest_ns ? timer_ns : earliest_ns;
        if (!sockets_wait(until_ns))
            host_park_blocked(until_ns);
        clock_idle(now_ns);
    }
}

static void account(void) {
    int64_t now_ns = clock_monotonic_ns();
    current->cpu_ns += now_ns - slice_start_ns;
    slice_start_ns = now_ns;
}

/* The current task is blocked, dead or queued: goes on with another until its turn comes. */
static void switch_away(void) {
    struct task *from = current, *to;
    account();
    to = next_task();
    slice_start_ns = clock_monotonic_ns();
    if (to == from)
        return;
    if (from->state != TASK_DEAD) {
        from->fs_base = fs_base();
        from->gs_base = gs_base();
        vectors_save(from->vectors);
    }
    set_fs_base(to->fs_base);
    set_gs_base(to->gs_base);
    vectors_restore(to->vectors);
    current = to;
    kernel_stack = (uint64_t)(to->registers + 1);
    context_switch(&from->stack_pointer, to->stack_pointer);
}

long task_block(int64_t deadline_ns) {
    if (!current->uninterruptible && signal_waiting(current))
        return -EINTR;
    current->state = TASK_BLOCKED;
    current->deadline_ns = deadline_ns;
    if (deadline_ns < earliest_ns)
        earliest_ns = deadline_ns;
    switch_away();
    return current->wake_result;
}

void task_yield(void) {
    expire(clock_monotonic_ns());
    if (!run_first)
        return;
    enqueue(current);
    switch_away();
}

void task_preempt(void) {
    int64_t now_ns = clock_monotonic_ns();
    if (now_ns - slice_start_ns < SLICE_NS && now_ns < earliest_ns && now_ns < sockets_due_ns)
        return;
    task_yield();
}

/* ---- ending ---------------------------------------------------------------------------------- */
static void forget(struct task *task) {
    struct task **link = &all_tasks;
    while (*link != task)
        link = &(*link)->next;
    *link = task->next;
    count--;
    ended_cpu_ns += task->cpu_ns;
    task->state = TASK_DEAD;
    task->next = graveyard;
    graveyard = task;
}

void task_exit(void) {
    bury();
    account();
    forget(current);
    switch_away();
    __builtin_unreachable();
}

void tasks_end_others(void) {
    run_first = NULL;
    for (struct task *task = all_tasks, *next; task; task = next) {
        next = task->next;
        if (task == current)
            continue;
        wait_leave(task);
        forget(task);
    }
    current->id = PROCESS_ID;
    current->clear_on_exit = current->robust_list = 0;
    current->rseq = NULL;
}

/* ---- processor time -------------------------------------------------------------------------- */
int64_t task_cpu_ns(const struct task *task) {
    return task->cpu_ns + (task == current ? clock_monotonic_ns() - slice_start_ns : 0);
}

int64_t process_cpu_ns(void) {
    int64_t sum = ended_cpu_ns;
    for (struct task *task = all_tasks; task; task = task->next)
        sum += task_cpu_ns(task);
    return sum;
}
