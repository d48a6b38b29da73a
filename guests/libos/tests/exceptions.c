/* exceptions.c: exceptions of the CPU become signals that a program can handle and survive. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>
#include "check.h"

static sigjmp_buf place;
static volatile int number_seen, code_seen;
static void *volatile address_seen;

static void jump_out(int number, siginfo_t *info, void *context) {
    (void)context;
    number_seen = number;
    code_seen = info->si_code;
    address_seen = info->si_addr;
    siglongjmp(place, 1);
}

static void handle(void (*function)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = function, .sa_flags = SA_SIGINFO};
    for (int i = 0; i < 5; i++)
        CHECK(sigaction((int[]){SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS}[i], &action, NULL) == 0);
    number_seen = 0;
}

#define RAISES(statement, number)                                                                  \
    do {                                                                                           \
        if (!sigsetjmp(place, 1))                                                                  \
            statement;                                                                             \
        CHECK(number_seen == number);                                                              \
    } while (0)

static void each_exception_has_its_signal(void) {
    volatile int zero = 0, one = 1;
    handle(jump_out);
    RAISES(*(volatile int *)8 = 1, SIGSEGV);
    CHECK(address_seen == (void *)8 && code_seen == SEGV_MAPERR);
    RAISES(*(volatile char *)0x700000000000, SIGSEGV);
    CHECK(address_seen == (void *)0x700000000000);
    RAISES(*(volatile int *)0x8000000000000000, SIGSEGV);
    CHECK(code_seen == SI_KERNEL && address_seen == NULL);
    RAISES(zero = one / zero, SIGFPE);
    CHECK(code_seen == FPE_INTDIV);
    RAISES(__asm__ volatile("ud2"), SIGILL);
    RAISES(__asm__ volatile("hlt"), SIGSEGV);
    RAISES(__asm__ volatile("int3"), SIGTRAP);
    RAISES(((void (*)(void))8)(), SIGSEGV);
}

static void step_over(int number, siginfo_t *info, void *context) {
    (void)info;
    number_seen = number;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; /* the length of ud2 */
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RCX] = 77;
}

static void a_handler_may_change_registers_and_go_on(void) {
    uint64_t rcx = 1;
    handle(step_over);
    __asm__ volatile("ud2" : "+c"(rcx) : : "memory");
    CHECK(number_seen == SIGILL && rcx == 77);
    register uint64_t kept __asm__("r11") = 0x2222;
    __asm__ volatile("ud2" : "+r"(kept) : : "rcx", "memory");
    CHECK(kept == 0x2222);
}

static void floating_point_exceptions_name_their_cause(void) {
    double zero = 0, one = 1;
    uint32_t control = 0x1f80 & ~0x200u; /* division by zero is not masked */
    handle(jump_out);
    if (!sigsetjmp(place, 1))
        __asm__ volatile("ldmxcsr %0; divsd %1, %2" : : "m"(control), "m"(zero), "x"(one));
    control = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(control));
    CHECK(number_seen == SIGFPE && code_seen == FPE_FLTDIV);
}

int main(void) {
    each_exception_has_its_signal();
    a_handler_may_change_registers_and_go_on();
    floating_point_exceptions_name_their_cause();
    return done();
}
