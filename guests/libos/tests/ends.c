/* ends.c: the ways in which a program can end, one for each argument. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

static void *exit_all(void *argument) {
    (void)argument;
    _exit(9);
}

static void exit_on_signal(int number) { _exit(number); }

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "";
    volatile int zero = 0;
    pthread_t thread;
    puts(how);
    fflush(stdout);
    if (!strcmp(how, "segfault"))
        *(volatile int *)16 = 1;
    if (!strcmp(how, "division"))
        return count / zero;
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "terminate"))
        kill(getpid(), SIGTERM);
    if (!strcmp(how, "kill"))
        kill(getpid(), SIGKILL);
    if (!strcmp(how, "handler without stack")) {
        signal(SIGSEGV, exit_on_signal);
        __asm__ volatile("mov $16, %rsp; push %rax");
    }
    if (!strcmp(how, "thread")) {
        pthread_create(&thread, NULL, exit_all, NULL);
        pthread_join(thread, NULL);
    }
    if (!strcmp(how, "unsupported")) {
        FAILS(syscall(SYS_add_key, 0, 0, 0, 0, 0), ENOSYS);
        FAILS(syscall(SYS_add_key, 0, 0, 0, 0, 0), ENOSYS);
        FAILS(syscall(499, 0), ENOSYS);
        FAILS(fork(), ENOSYS);
    }
    if (!strcmp(how, "greed"))
        return malloc((size_t)1 << 40) ? 0 : 3;
    if (!strcmp(how, "greed that is stilled")) {
        free(malloc((size_t)1 << 40));
        return 0;
    }
    if (!strcmp(how, "wait"))
        pause();
    return 0;
}
