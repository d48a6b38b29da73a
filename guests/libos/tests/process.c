/* process.c: what a program is told about itself and its system. */
#define _GNU_SOURCE
#include <elf.h>
#include <sched.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

extern char **environ;
#ifdef BALLAST
char ballast[BALLAST];
#endif

static void the_auxiliary_vector_is_complete(const char *name) {
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    int dynamic = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        dynamic += headers[i].p_type == PT_DYNAMIC || headers[i].p_type == PT_LOAD;
    CHECK(dynamic >= 2 && getauxval(AT_PHENT) == sizeof *headers);
    CHECK(getauxval(AT_PAGESZ) == 4096 && getauxval(AT_CLKTCK) == 100);
    CHECK(getauxval(AT_SECURE) == 0 && getauxval(AT_RANDOM) != 0);
    CHECK(getauxval(AT_MINSIGSTKSZ) >= 1024);
    CHECK(strcmp((const char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    CHECK(strstr((const char *)getauxval(AT_EXECFN), name));
}

static void identities_are_consistent(void) {
    uid_t real, effective, saved;
    CHECK(getpid() > 0 && getppid() >= 0 && syscall(SYS_gettid) == getpid());
    CHECK(getpgid(0) == getpgrp() && getsid(0) >= 0);
    CHECK(getresuid(&real, &effective, &saved) == 0);
    CHECK(real == getuid() && effective == geteuid() && saved == effective);
    FAILS(getpgid(999999), ESRCH);
    FAILS(waitpid(-1, NULL, 0), ECHILD);
}

static void the_system_can_be_asked(void) {
    struct utsname name;
    struct sysinfo info;
    struct rlimit limit;
    CHECK(uname(&name) == 0);
    CHECK(strcmp(name.sysname, "Linux") == 0 && strcmp(name.machine, "x86_64") == 0);
    CHECK(sysinfo(&info) == 0 && info.totalram * info.mem_unit >= 1 << 25);
    CHECK(info.freeram <= info.totalram && info.procs >= 1);
    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur >= 65536);
    CHECK(getrlimit(RLIMIT_CORE, &limit) == 0);
    limit.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_CORE, &limit) == 0 && getrlimit(RLIMIT_CORE, &limit) == 0);
    CHECK(limit.rlim_cur == 0);
    FAILS(getrlimit(99, &limit), EINVAL);
    FAILS(syscall(SYS_uname, 8), EFAULT);
}

static void scheduling_can_be_asked(void) {
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    CHECK(sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_FIFO) == 1);
    FAILS(sched_get_priority_max(77), EINVAL);
    CHECK(sched_getscheduler(0) >= 0 && sched_getcpu() >= 0 && sched_yield() == 0);
    errno = 0;
    CHECK(getpriority(PRIO_PROCESS, 0) >= -20 && errno == 0);
}

static void a_thread_has_a_name(void) {
    char name[16];
    CHECK(prctl(PR_SET_NAME, "a name that is much too long") == 0);
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "a name that is ") == 0);
    FAILS(prctl(9999), EINVAL);
}

static void random_bytes_differ(void) {
    uint8_t one[64] = {0}, two[64] = {0};
    CHECK(getrandom(one, sizeof one, 0) == sizeof one);
    CHECK(getrandom(two, sizeof two, GRND_NONBLOCK) == sizeof two);
    CHECK(memcmp(one, two, sizeof one) != 0);
    CHECK(memcmp(one, one + 32, 32) != 0);
    FAILS(getrandom(one, 1, 0x100), EINVAL);
    FAILS(syscall(SYS_getrandom, 8, 1, 0), EFAULT);
}

static void say_goodbye(void) { puts("goodbye"); }

int main(int count, char **arguments) {
    CHECK(count == 3 && strcmp(arguments[1], "one") == 0 && strcmp(arguments[2], "") == 0);
    CHECK(arguments[3] == NULL && getenv("NAME") && strcmp(getenv("NAME"), "a value") == 0);
    CHECK((char **)environ == arguments + 4);
    the_auxiliary_vector_is_complete("process");
    identities_are_consistent();
    the_system_can_be_asked();
    scheduling_can_be_asked();
    a_thread_has_a_name();
    random_bytes_differ();
    atexit(say_goodbye);
    fflush(stdout);
    return 0x107;
}
