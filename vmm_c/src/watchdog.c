/* watchdog.c: how a running guest is interrupted: one thread for time-outs, and kills from any thread.
 *
 * A kick sets immediate_exit, which KVM looks at when it enters the guest, and signals the thread that
 * is inside KVM_RUN; so neither a kick just before the entry nor one just after is lost. Signals go
 * out under the VM's lock and only while `running` says that the thread is there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "internal.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t list_changed;
static hl_vm *armed;
static int64_t next_look_ns; /* when the watchdog thread wakes next */
static pid_t started_in;     /* the process that has the thread; a fork leaves it behind */
static int kick_signal;

int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static void on_kick(int number) { (void)number; }

static void kick(hl_vm *vm, unsigned reason) {
    pthread_mutex_lock(&vm->lock);
    /* One signal is enough, and a storm of them would keep the thread from ever leaving. */
    if (vm->running && !vm->kicks)
        pthread_kill(vm->thread, kick_signal);
    vm->kicks |= reason;
    vm_set_immediate_exit(vm, true);
    if (reason & KICK_KILL && vm->wake_fd >= 0)
        (void)eventfd_write(vm->wake_fd, 1);
    pthread_mutex_unlock(&vm->lock);
}

/* What has run out, or when to look again. */
static unsigned check(hl_vm *vm, int64_t now, int64_t *look_again) {
    if (vm->deadline_ns <= now)
        return KICK_DEADLINE;
    *look_again = vm->deadline_ns;
    if (vm->cpu_deadline_ns == INT64_MAX)
        return 0;
    struct timespec used;
    if (clock_gettime(vm->cpu_clock, &used))
        return 0;
    int64_t left = vm->cpu_deadline_ns - (used.tv_sec * INT64_C(1000000000) + used.tv_nsec);
    if (left <= 0)
        return KICK_CPU;
    if (now + left < *look_again)
        *look_again = now + left;
    return 0;
}

static void *watch(void *unused) {
    (void)unused;
    pthread_mutex_lock(&list_lock);
    for (;;) {
        int64_t now = monotonic_ns();
        next_look_ns = INT64_MAX;
        for (hl_vm *vm = armed; vm; vm = vm->next) {
            int64_t look_again = INT64_MAX;
            unsigned reason = check(vm, now, &look_again);
            if (reason & KICK_DEADLINE)
                vm->deadline_ns = INT64_MAX;
            if (reason & KICK_CPU)
                vm->cpu_deadline_ns = INT64_MAX;
            if (reason)
                kick(vm, reason);
            if (look_again < next_look_ns)
                next_look_ns = look_again;
        }
        struct timespec until = timespec_of(next_look_ns);
        if (next_look_ns == INT64_MAX)
            pthread_cond_wait(&list_changed, &list_lock);
        else
            pthread_cond_timedwait(&list_changed, &list_lock, &until);
    }
    return NULL;
}

/* The first real-time signal nobody uses, from the far end, where few look. */
static int install_signal(void) {
    for (int number = SIGRTMAX - 1; number > SIGRTMIN; number--) {
        struct sigaction old, new = {.sa_handler = on_kick, .sa_flags = SA_RESTART};
        if (sigaction(number, NULL, &old) || old.sa_handler != SIG_DFL)
            continue;
        if (sigaction(number, &new, NULL))
            break;
        kick_signal = number;
        return 0;
    }
    return hl_fail(-EBUSY,
                   "every real-time signal is in use; the helper needs one to interrupt guests");
}

static int start_thread(void) {
    pthread_t thread;
    pthread_condattr_t attributes;
    sigset_t all, old;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&list_changed, &attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error)
        return hl_fail(-error, "no thread for time-outs: %s", strerror(error));
    pthread_detach(thread);
    return 0;
}

/* Around a fork: whoever forks holds the lock, so that the child does not inherit another's hold. */
static void before_fork(void) { pthread_mutex_lock(&list_lock); }
static void after_fork(void) { pthread_mutex_unlock(&list_lock); }

int watchdog_start(void) {
    pthread_mutex_lock(&list_lock);
    int result = 0;
    if (started_in != getpid()) {
        armed = NULL; /* after a fork: the parent's VMs are not ours */
        if (!kick_signal)
            result = install_signal();
        if (!result && !started_in)
            result = -pthread_atfork(before_fork, after_fork, after_fork);
        if (!result)
            result = dirty_start();
        if (!result)
            result = start_thread();
        if (!result)
            started_in = getpid();
    }
    pthread_mutex_unlock(&list_lock);
    return result;
}

void watchdog_arm(hl_vm *vm, const struct hl_limits *limits, int64_t cpu_now_ns) {
    static _Thread_local bool unblocked;
    if (!unblocked) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, kick_signal);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        unblocked = true;
    }
    if (limits->deadline_ns == INT64_MAX && limits->cpu_ns == INT64_MAX)
        return;
    pthread_mutex_lock(&list_lock);
    vm->deadline_ns = limits->deadline_ns;
    vm->cpu_deadline_ns = INT64_MAX;
    int64_t look = limits->deadline_ns;
    if (limits->cpu_ns != INT64_MAX && !pthread_getcpuclockid(pthread_self(), &vm->cpu_clock)) {
        vm->cpu_deadline_ns =
            limits->cpu_ns > INT64_MAX - cpu_now_ns ? INT64_MAX : cpu_now_ns + limits->cpu_ns;
        int64_t now = monotonic_ns();
        if (limits->cpu_ns < look - now)
            look = now + limits->cpu_ns;
    }
    vm->previous = NULL;
    vm->next = armed;
    if (armed)
        armed->previous = vm;
    armed = vm;
    if (look < next_look_ns)
        pthread_cond_signal(&list_changed);
    pthread_mutex_unlock(&list_lock);
}

void watchdog_disarm(hl_vm *vm) {
    pthread_mutex_lock(&list_lock);
    if (vm->previous)
        vm->previous->next = vm->next;
    if (vm->next)
        vm->next->previous = vm->previous;
    if (armed == vm)
        armed = vm->next;
    vm->next = vm->previous = NULL;
    pthread_mutex_unlock(&list_lock);
    pthread_mutex_lock(&vm->lock);
    vm->kicks &= ~(unsigned)(KICK_DEADLINE | KICK_CPU);
    pthread_mutex_unlock(&vm->lock);
}

unsigned watchdog_enter(hl_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    unsigned kicks = vm->kicks;
    vm_set_immediate_exit(vm, kicks != 0);
    vm->thread = pthread_self();
    vm->running = !kicks;
    pthread_mutex_unlock(&vm->lock);
    return kicks;
}

void watchdog_leave(hl_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    vm->running = false;
    pthread_mutex_unlock(&vm->lock);
}

int watchdog_wait(hl_vm *vm, int64_t until_ns) {
    struct pollfd wake = {.fd = hl_vm_wake_fd(vm), .events = POLLIN};
    if (wake.fd < 0)
        return wake.fd;
    int64_t now = monotonic_ns();
    /* The guest may ask for any time, so the difference may not be one. */
    struct timespec timeout = timespec_of(until_ns > now ? until_ns - now : 0);
    if (ppoll(&wake, 1, until_ns == INT64_MAX ? NULL : &timeout, NULL) >= 0)
        return 0;
    return errno == EINTR ? -EINTR : hl_fail(-errno, "ppoll: %s", strerror(errno));
}

void watchdog_forget_kicks(hl_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    vm->kicks = 0;
    if (vm->wake_fd >= 0) {
        eventfd_t drained;
        (void)eventfd_read(vm->wake_fd, &drained);
    }
    pthread_mutex_unlock(&vm->lock);
}

void hl_vm_kill(hl_vm *vm) { kick(vm, KICK_KILL); }

int hl_vm_wake_fd(hl_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    if (vm->wake_fd < 0) {
        vm->wake_fd = eventfd(vm->kicks & KICK_KILL ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (vm->wake_fd < 0)
            hl_fail(-errno, "eventfd: %s", strerror(errno));
    }
    int fd = vm->wake_fd;
    pthread_mutex_unlock(&vm->lock);
    return fd < 0 ? -EMFILE : fd;
}
