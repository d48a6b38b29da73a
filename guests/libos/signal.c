/* signal.c: signals: who gets one, when, and what becomes of it. signal(7) has the rules. */
#include <asm/unistd_64.h>
#include "process.h"
#include "text.h"

#define SYSCALL_INSTRUCTION_SIZE 2
#define SET(number) (1UL << ((number) - 1))
static const signal_set ignored_by_default =
    SET(SIGCHLD) | SET(SIGURG) | SET(SIGWINCH) | SET(SIGCONT);
/* There is nobody to continue a stopped guest. */
static const signal_set stopping = SET(SIGSTOP) | SET(SIGTSTP) | SET(SIGTTIN) | SET(SIGTTOU);
/* From exceptions: these come first. */
static const signal_set synchronous =
    SET(SIGSEGV) | SET(SIGBUS) | SET(SIGILL) | SET(SIGTRAP) | SET(SIGFPE) | SET(SIGSYS);

signal_action signal_actions[SIGNAL_COUNT];
static signal_set process_pending;
static siginfo_t process_details[SIGNAL_COUNT];

/* ---- who ------------------------------------------------------------------------------------- */
static bool is_ignored(int number) {
    const signal_action *action = &signal_actions[number - 1];
    return action->sa_handler == SIG_IGN ||
           (action->sa_handler == SIG_DFL && (ignored_by_default | stopping) & signal_bit(number));
}

signal_set signal_pending(const struct task *task) {
    return task->signals.pending | process_pending;
}

bool signal_waiting(const struct task *task) {
    return signal_pending(task) & (~task->signals.blocked | task->signals.wanted);
}

/* Ends the task's wait if the signal is for it. */
static bool notify(struct task *task) {
    if (task->state != TASK_BLOCKED || task->uninterruptible || !signal_waiting(task))
        return false;
    task_wake(task, -EINTR);
    return true;
}

void signal_send(struct task *task, int number, const siginfo_t *details) {
    const siginfo_t from_kernel = {.si_signo = number, .si_code = SI_KERNEL};
    signal_set bit = signal_bit(number);
    details = details ? details : &from_kernel;
    signal_set cares = 0;
    for (struct task *other = all_tasks; other; other = other->next)
        if (!task || other == task)
            cares |= other->signals.blocked | other->signals.wanted;
    if (is_ignored(number) && !(cares & bit))
        return;
    if (task) {
        if (!task->signals.details)
            task->signals.details = heap_alloc(SIGNAL_COUNT * sizeof(siginfo_t));
        if (task->signals.details && !(task->signals.pending & bit))
            task->signals.details[number - 1] = *details;
        task->signals.pending |= bit;
        notify(task);
        return;
    }
    if (!(process_pending & bit))
        process_details[number - 1] = *details;
    process_pending |= bit;
    /* One that can take it at once goes first. */
    if (current->state == TASK_RUNNABLE && !(current->signals.blocked & bit))
        return;
    for (struct task *other = all_tasks; other && !notify(other);)
        other = other->next;
}

void signal_fault(int number, int code, uint64_t address) {
    signal_action *action = &signal_actions[number - 1];
    siginfo_t details = {.si_signo = number, .si_code = code, .si_addr = (void *)address};
    if (current->signals.blocked & signal_bit(number) || action->sa_handler == SIG_IGN) {
        action->sa_handler = SIG_DFL;
        current->signals.blocked &= ~signal_bit(number);
    }
    signal_send(current, number, &details);
}

/* ---- what ------------------------------------------------------------------------------------ */
int signal_take(struct task *task, signal_set set, siginfo_t *details) {
    set &= signal_pending(task);
    if (!set)
        return 0;
    int number = __builtin_ctzl(set & synchronous ? set & synchronous : set) + 1;
    *details = (siginfo_t){.si_signo = number};
    if (task->signals.pending & signal_bit(number)) {
        if (task->signals.details)
            *details = task->signals.details[number - 1];
        task->signals.pending &= ~signal_bit(number);
    } else {
        *details = process_details[number - 1];
        process_pending &= ~signal_bit(number);
    }
    return number;
}

static const char *fatal_name(int number) {
    switch (number) {
    case SIGSEGV: return "Segmentation fault";
    case SIGBUS: return "Bus error";
    case SIGILL: return "Illegal instruction";
    case SIGFPE: return "Floating point exception";
    case SIGTRAP: return "Trace or breakpoint trap";
    case SIGABRT: return "Aborted";
    case SIGSYS: return "Bad system call";
    }
    return NULL;
}

/* Only what a shell would report as well is told; a kill that was asked for is not. */
static _Noreturn void die(int number, const siginfo_t *details, const struct registers *registers) {
    char line[160];
    struct text text = {line, sizeof line, 0};
    if (fatal_name(number)) {
        text_string(&text, fatal_name(number));
        if (synchronous & signal_bit(number) && details->si_code > 0) {
            text_string(&text, " at 0x");
            text_number(&text, registers->rip, 16, 1);
            text_string(&text, ", address 0x");
            text_number(&text, (uint64_t)details->si_addr, 16, 1);
        }
        text_string(&text, "\n");
        console_write(HL_CONSOLE_STDERR, line, text.used);
    }
    process_exit(128 + number);
}

/* System calls that a handler with SA_RESTART does not end with EINTR; signal(7). */
static bool restarts(uint64_t number, const struct registers *registers) {
    switch (number) {
    case __NR_read:
    case __NR_readv:
    case __NR_write:
    case __NR_writev:
    case __NR_ioctl:
    case __NR_openat:
    case __NR_open:
    case __NR_wait4:
    case __NR_waitid:
    case __NR_flock:
    case __NR_accept:
    case __NR_accept4:
    case __NR_connect:
    case __NR_sendto:
    case __NR_sendmsg:
    case __NR_recvfrom:
    case __NR_recvmsg:
    case __NR_getrandom: return true;
    case __NR_futex: return registers->r10 == 0; /* no time-out to begin anew */
    }
    return false;
}

static bool restart(struct registers *registers) {
    if ((long)registers->rax != -EINTR || !restarts(registers->number, registers))
        return false;
    registers->rax = registers->number;
    registers->rip -= SYSCALL_INSTRUCTION_SIZE;
    return true;
}

/* Lets the signal act. Returns whether a handler is to run. */
static bool act(struct registers *registers, int number, const siginfo_t *details,
                bool after_syscall) {
    signal_action *action = &signal_actions[number - 1];
    if (is_ignored(number))
        return false;
    if (action->sa_handler == SIG_DFL)
        die(number, details, registers);
    if (after_syscall && action->sa_flags & SA_RESTART)
        restart(registers);
    if (!signal_enter(registers, number, details, action))
        die(SIGSEGV, details, registers);
    if (action->sa_flags & SA_RESETHAND)
        action->sa_handler = SIG_DFL;
    return true;
}

bool signal_deliver(struct registers *registers, bool after_syscall) {
    siginfo_t details;
    bool entered = false;
    for (int number; (number = signal_take(current, ~current->signals.blocked, &details));)
        entered |= act(registers, number, &details, after_syscall && !entered);
    if (current->signals.has_saved) {
        current->signals.blocked = current->signals.saved;
        current->signals.has_saved = false;
    }
    /* Woken for a signal that somebody else took, or that was ignored. */
    return entered || (after_syscall && restart(registers));
}

void signals_exec(void) {
    for (int i = 0; i < SIGNAL_COUNT; i++)
        if (signal_actions[i].sa_handler != SIG_IGN)
            signal_actions[i] = (signal_action){.sa_handler = SIG_DFL};
    current->signals.stack = (stack_t){.ss_flags = SS_DISABLE};
    current->signals.wanted = 0;
    current->signals.has_saved = false;
}
