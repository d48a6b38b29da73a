/* signals.c: handlers and what they see, masks, waiting for signals. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

static volatile int seen, order[8], depth;
static volatile siginfo_t details;
static char alternate[65536];
static volatile uintptr_t handler_stack;

static void handler(int number, siginfo_t *info, void *context) {
    char here;
    double noise[4] = {1, 2, 3, 4};
    __asm__ volatile("movups %0, %%xmm7; movups %0, %%xmm8" : : "m"(noise) : "xmm7", "xmm8");
    CHECK(((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] != 0);
    details = *info;
    handler_stack = (uintptr_t)&here;
    order[seen++ % 8] = number;
}

static void handle_with(int number, int flags, void (*function)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = function, .sa_flags = flags | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(number, &action, NULL) == 0);
    seen = 0;
}

static sigset_t set_of(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}

static void a_handler_learns_who_sent_it(void) {
    handle_with(SIGUSR1, 0, handler);
    CHECK(kill(getpid(), SIGUSR1) == 0 && seen == 1);
    CHECK(details.si_signo == SIGUSR1 && details.si_code == SI_USER && details.si_pid == getpid());
    union sigval value = {.sival_int = 42};
    CHECK(sigqueue(getpid(), SIGUSR1, value) == 0 && seen == 2);
    CHECK(details.si_code == SI_QUEUE && details.si_value.sival_int == 42);
    FAILS(kill(999999, 0), ESRCH);
    FAILS(kill(getpid(), 65), EINVAL);
    CHECK(kill(getpid(), 0) == 0 && seen == 2);
}

static void blocked_signals_wait(void) {
    sigset_t set = set_of(SIGUSR1), old, pending;
    handle_with(SIGUSR1, 0, handler);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
    raise(SIGUSR1);
    CHECK(seen == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK(seen == 1);
}

static void sigsuspend_swaps_the_mask_for_one_handler(void) {
    sigset_t set = set_of(SIGUSR1), none, now;
    sigemptyset(&none);
    handle_with(SIGUSR1, 0, handler);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    FAILS(sigsuspend(&none), EINTR);
    CHECK(seen == 1);
    sigprocmask(SIG_SETMASK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void sigtimedwait_takes_a_signal_without_a_handler(void) {
    sigset_t set = set_of(SIGUSR2);
    struct timespec soon = {0, 5000000};
    siginfo_t info;
    sigprocmask(SIG_BLOCK, &set, NULL);
    FAILS(sigtimedwait(&set, &info, &soon), EAGAIN);
    raise(SIGUSR2);
    CHECK(sigtimedwait(&set, &info, &soon) == SIGUSR2 && info.si_signo == SIGUSR2);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void a_handler_runs_on_the_alternate_stack(void) {
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, now;
    CHECK(sigaltstack(&stack, NULL) == 0);
    handle_with(SIGUSR1, SA_ONSTACK, handler);
    raise(SIGUSR1);
    uintptr_t bottom = (uintptr_t)alternate, top = bottom + sizeof alternate;
    CHECK(handler_stack > bottom && handler_stack < top);
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == alternate && now.ss_flags == 0);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0);
    raise(SIGUSR1);
    CHECK(handler_stack < bottom || handler_stack > top);
}

static void nest(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    int level = ++depth;
    if (level < 3)
        raise(number);
    CHECK(depth == (level < 3 ? 3 : level));
}

static void handlers_nest_only_where_asked(void) {
    handle_with(SIGUSR1, SA_NODEFER, nest);
    raise(SIGUSR1);
    CHECK(depth == 3);
    handle_with(SIGUSR1, SA_RESETHAND, handler);
    raise(SIGUSR1);
    struct sigaction now;
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
}

/* All registers, the flags, the red zone and the vector registers survive a handler. */
static void a_handler_leaves_no_trace(void) {
    uint64_t vector[2] = {0x1122334455667788, 0x99aabbccddeeff00}, after[2], red, sum;
    handle_with(SIGUSR1, 0, handler);
    __asm__ volatile("movups %[vector], %%xmm7\n\t"
                     "mov $0x5555, %%rbx\n\t"
                     "mov $0x77, %%r15\n\t"
                     "movq $0x1234, -64(%%rsp)\n\t"
                     "mov %[kill], %%eax\n\t"
                     "syscall\n\t"
                     "mov -64(%%rsp), %[red]\n\t"
                     "movups %%xmm7, %[after]\n\t"
                     "lea (%%rbx, %%r15), %[sum]"
                     : [red] "=&r"(red), [after] "=m"(after), [sum] "=&r"(sum)
                     : [vector] "m"(vector), [kill] "i"(62), "D"((long)getpid()), "S"((long)SIGUSR1)
                     : "rax", "rbx", "rcx", "r11", "r15", "xmm7", "memory");
    CHECK(seen == 1 && red == 0x1234 && sum == 0x5555 + 0x77);
    CHECK(after[0] == vector[0] && after[1] == vector[1]);
}

static sigjmp_buf place;

static void leave(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    siglongjmp(place, 1);
}

static void a_handler_may_jump_out(void) {
    sigset_t now;
    handle_with(SIGUSR1, 0, leave);
    if (sigsetjmp(place, 1) == 0)
        raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, NULL, &now);
    CHECK(!sigismember(&now, SIGUSR1));
}

static void an_alarm_ends_a_sleep(void) {
    struct itimerval soon = {.it_value = {0, 5000}}, off = {0};
    struct timespec longer = {30, 0}, rest = {0};
    handle_with(SIGALRM, SA_RESTART, handler);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    FAILS(nanosleep(&longer, &rest), EINTR);
    CHECK(seen == 1 && rest.tv_sec >= 28);
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
}

static int pipe_ends[2];

static void write_byte(int number, siginfo_t *info, void *context) {
    handler(number, info, context);
    CHECK(write(pipe_ends[1], "x", 1) == 1);
}

static void a_read_goes_on_after_a_restarting_handler(void) {
    struct itimerval soon = {.it_value = {0, 5000}};
    char byte = 0;
    CHECK(pipe(pipe_ends) == 0);
    handle_with(SIGALRM, SA_RESTART, write_byte);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK(read(pipe_ends[0], &byte, 1) == 1 && byte == 'x' && seen == 1);
    handle_with(SIGALRM, 0, handler);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    FAILS(read(pipe_ends[0], &byte, 1), EINTR);
}

static volatile pthread_t handled_by;

static void note_thread(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    handled_by = pthread_self();
}

static void *wait_for_signal(void *argument) {
    while (!handled_by)
        usleep(100);
    return argument;
}

static void a_signal_reaches_the_thread_it_was_sent_to(void) {
    pthread_t thread;
    handle_with(SIGUSR2, 0, note_thread);
    CHECK(pthread_create(&thread, NULL, wait_for_signal, NULL) == 0);
    CHECK(pthread_kill(thread, SIGUSR2) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_equal(handled_by, thread));
}

int main(void) {
    a_handler_learns_who_sent_it();
    blocked_signals_wait();
    sigsuspend_swaps_the_mask_for_one_handler();
    sigtimedwait_takes_a_signal_without_a_handler();
    a_handler_runs_on_the_alternate_stack();
    handlers_nest_only_where_asked();
    a_handler_leaves_no_trace();
    a_handler_may_jump_out();
    an_alarm_ends_a_sleep();
    a_read_goes_on_after_a_restarting_handler();
    a_signal_reaches_the_thread_it_was_sent_to();
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    return done();
}
