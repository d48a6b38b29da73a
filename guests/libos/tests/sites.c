/* sites.c: a system call leaves everything as it was but for its result, wherever it is made from. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "check.h"

#define MARK 0x5aa5c33cf00f1234ull

/* The form that compilers and libc use: the number right before the instruction. */
__asm__(".text\n"
        "just_getpid: mov $39, %eax\n"
        "at_syscall: syscall\n"
        "after_syscall: ret\n"
        /* Into the middle, with another number in the register: getppid. */
        "jump_behind_the_number: mov $110, %eax\n"
        "  jmp at_syscall\n"
        /* Below the stack pointer lies what a leaf function keeps there, System V ABI 3.2.2. */
        "with_red_zone: mov %rdi, -8(%rsp)\n"
        "  mov %rdi, -128(%rsp)\n"
        "  mov $39, %eax\n"
        "  syscall\n"
        "  xor %eax, %eax\n"
        "  cmp %rdi, -8(%rsp)\n"
        "  jne 1f\n"
        "  cmp %rdi, -128(%rsp)\n"
        "  jne 1f\n"
        "  inc %eax\n"
        "1: ret\n"
        /* The flags after a call with all arithmetic ones set: they are the program's. */
        "flags_after: mov $0xad5, %edi\n"
        "  push %rdi\n"
        "  popfq\n"
        "  mov $39, %eax\n"
        "  syscall\n"
        "  pushfq\n"
        "  pop %rax\n"
        "  cld\n"
        "  ret\n"
        "return_address: mov $39, %eax\n"
        "  syscall\n"
        "2: lea 2b(%rip), %rax\n"
        "  sub %rcx, %rax\n"
        "  ret\n"
        /* A number for another register is none of the kernel's business. */
        "other_register: mov $39, %eax\n"
        "  mov $0xffff, %r8d\n"
        "  syscall\n"
        "  mov %r8, %rax\n"
        "  ret\n");
long just_getpid(void), jump_behind_the_number(void), with_red_zone(uint64_t mark),
    flags_after(void), return_address(void), other_register(void);

static void registers_and_stack_are_kept(void) {
    CHECK(just_getpid() == getpid() && just_getpid() == syscall(SYS_getpid));
    CHECK(jump_behind_the_number() == getppid());
    CHECK(with_red_zone(MARK) == 1);
    CHECK((flags_after() & 0xcd5) == 0x8d5);
    CHECK(return_address() == 0);
    CHECK(other_register() == 0xffff);
    uint64_t kept[5];
    __asm__ volatile(
        "mov $1, %%ebx; mov $2, %%r12d; mov $3, %%r13d; mov $4, %%r14d; mov $5, %%r15d;"
        "call just_getpid; mov %%rbx, 0(%0); mov %%r12, 8(%0); mov %%r13, 16(%0);"
        "mov %%r14, 24(%0); mov %%r15, 32(%0)"
        :
        : "D"(kept)
        : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
          "memory");
    for (uint64_t i = 0; i < 5; i++)
        CHECK(kept[i] == i + 1);
}

static int ends[2];

static void fill_pipe(int number) {
    (void)number;
    CHECK(write(ends[1], "x", 1) == 1);
}

/* The kernel repeats the call by going back to the instruction. */
static void an_interrupted_call_is_restarted(void) {
    struct sigaction action = {.sa_handler = fill_pipe, .sa_flags = SA_RESTART};
    char byte = 0;
    struct iovec part = {&byte, 1};
    CHECK(pipe(ends) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    ualarm(1000, 0);
    CHECK(readv(ends[0], &part, 1) == 1 && byte == 'x');
}

static void *call_often(void *result) {
    for (int i = 0; i < 10000; i++)
        if (just_getpid() != getpid())
            return NULL;
    return result;
}

static void threads_call_at_once(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, call_often, ends) == 0);
    for (int i = 0; i < 4; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result == ends);
    }
}

int main(int count, char **arguments) {
    (void)arguments;
    if (count > 1)
        return printf("%02x\n", *(const uint8_t *)(uintptr_t)just_getpid) < 0;
    registers_and_stack_are_kept();
    an_interrupted_call_is_restarted();
    threads_call_at_once();
    return done();
}
