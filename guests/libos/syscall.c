/* syscall.c: from a system call's number to its function, and what was asked for in vain. */
#include <asm/unistd_64.h>
#include "process.h"
#include "text.h"

#define NUMBER_LIMIT 512

int syscall_enter(struct registers *registers);

#define SYSCALL(number, name, support, note)                                                       \
    _Static_assert((number) == __NR_##name, "number of " #name);
#include "syscalls.def"
#undef SYSCALL

static syscall_function *const functions[NUMBER_LIMIT] = {
#define SYSCALL(number, name, support, note) [number] = sys_##name,
#include "syscalls.def"
#undef SYSCALL
};

static uint32_t unsupported[NUMBER_LIMIT];

static long call(const struct registers *registers) {
    uint64_t number = registers->number;
    const struct syscall_arguments arguments = {{registers->rdi, registers->rsi, registers->rdx,
                                                 registers->r10, registers->r8, registers->r9}};
    syscall_function *function = number < NUMBER_LIMIT ? functions[number] : NULL;
    long result = function ? function(&arguments) : -ENOSYS;
    if (result == -ENOSYS)
        unsupported[number < NUMBER_LIMIT ? number : NUMBER_LIMIT - 1]++;
    return result;
}

/* Whether all registers must be loaded anew, not only what a system call changes. */
int syscall_enter(struct registers *registers) {
    current->registers_changed = false;
    long result = call(registers);
    registers->rax = (uint64_t)result;
    task_preempt();
    return signal_deliver(registers, true) || current->registers_changed;
}

/* ---- what is not there ----------------------------------------------------------------------- */
static const char *const names[NUMBER_LIMIT] = {
#include "syscall_names.h"
};

size_t unsupported_syscalls_text(char *to, size_t room) {
    struct text text = {to, room, 0};
    for (unsigned number = 0; number < NUMBER_LIMIT; number++) {
        if (!unsupported[number])
            continue;
        if (names[number])
            text_string(&text, names[number]);
        else
            text_decimal(&text, number);
        text_string(&text, " ");
        text_decimal(&text, unsupported[number]);
        text_string(&text, "\n");
    }
    return text.used;
}

static bool is_asked_to_explain(void) {
    static const char wanted[] = "HYPERLIGHT_EXPLAIN=1";
    for (size_t at = 0; at < program.environment_size; at += strlen(program.environment + at) + 1)
        if (strcmp(program.environment + at, wanted) == 0)
            return true;
    return false;
}

void process_exit(int status) {
    static char text[8192];
    if (is_asked_to_explain()) {
        console_message("system calls that are not there, and how often they were asked for:\n");
        console_write(HL_CONSOLE_STDERR, text, unsupported_syscalls_text(text, sizeof text));
    }
    /* Most programs say no more than that they could not go on. */
    if (status != 0 && memory_was_refused())
        console_message("library OS: the program asked for more memory than there is\n");
    guest_exit(status);
}
