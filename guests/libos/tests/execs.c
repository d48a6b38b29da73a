/* execs.c: a program replaces itself: with itself, by a script, never by what is not there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

static char *const environment[] = {"STEP=next", NULL};

static void *wait_forever(void *argument) {
    pause();
    return argument;
}

static void ignore(int number) { (void)number; }

static void missing_programs_leave_the_old_one_running(const char *self) {
    char *const arguments[] = {(char *)self, NULL};
    FAILS(execve("/no/such/program", arguments, environment), ENOENT);
    FAILS(execve("/tmp", arguments, environment), EACCES);
    FAILS(syscall(SYS_execve, 8, arguments, environment), EFAULT);
    FAILS(syscall(SYS_execve, self, 8, environment), EFAULT);
}

static void run_by_script(const char *self) {
    char line[4200];
    int script = open("/tmp/script", O_CREAT | O_TRUNC | O_WRONLY, 0755);
    CHECK(script >= 0);
    int size = snprintf(line, sizeof line, "#! %s  from script \nrest\n", self);
    CHECK(write(script, line, (size_t)size) == size && close(script) == 0);
    char *const arguments[] = {"ignored", "last", NULL};
    execve("/tmp/script", arguments, environment);
    CHECK(!"execve returns");
}

int main(int count, char **arguments) {
    struct sigaction now;
    if (count == 1) {
        pthread_t thread;
        missing_programs_leave_the_old_one_running(arguments[0]);
        CHECK(open("/tmp", O_RDONLY | O_CLOEXEC) == 3 && open("/tmp", O_RDONLY) == 4);
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, ignore);
        CHECK(pthread_create(&thread, NULL, wait_forever, NULL) == 0);
        char *const again[] = {arguments[0], "self", NULL};
        execve(arguments[0], again, environment);
        CHECK(!"execve returns");
    }
    CHECK(strcmp(getenv("STEP"), "next") == 0 && getpid() == gettid());
    if (count == 2) {
        CHECK(strcmp(arguments[1], "self") == 0);
        CHECK(fcntl(3, F_GETFD) == -1 && fcntl(4, F_GETFD) == 0 && close(4) == 0);
        CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
        CHECK(sigaction(SIGUSR2, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
        run_by_script(arguments[0]);
    }
    CHECK(count == 4 && strcmp(arguments[1], "from script") == 0);
    CHECK(strcmp(arguments[2], "/tmp/script") == 0 && strcmp(arguments[3], "last") == 0);
    return done();
}
