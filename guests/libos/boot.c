/* boot.c: the first C code to run, and what happens to exceptions. */
#include "ports.h"
#include "process.h"
#include "text.h"

_Noreturn void boot(void);
void exception_enter(struct registers *registers);
_Noreturn void libos_fault(const struct registers *registers);

/* Says which host ABI this is built for; elf(5) has the format of notes. */
__attribute__((section(".note.hyperlight"), used)) static const struct {
    uint32_t owner_size, version_size, type;
    char owner[(sizeof HL_NOTE_OWNER + 3) / 4 * 4];
    uint32_t version;
} abi_note = {sizeof HL_NOTE_OWNER, sizeof(uint32_t), HL_NOTE_ABI, HL_NOTE_OWNER, HL_ABI_VERSION};

_Noreturn void boot(void) {
    struct hl_control *control = control_block();
    control->syscall_entry = (uint64_t)syscall_entry;
    control->exception_entry = (uint64_t)exception_entry;
    memory_init();
    tasks_init();
    files_init();
    const struct hl_frame *frame = (const struct hl_frame *)boot_info()->in_address;
    exec_first((const char *)(frame + 1), frame->json_size);
}

/* ---- exceptions of the program: Intel SDM vol. 3, table 6-1 ---------------------------------- */
#define VECTOR_PAGE_FAULT 14
#define VECTOR_COUNT 32
static const struct {
    uint8_t number; /* the signal Linux makes of it */
    uint8_t code;
} fault_signals[VECTOR_COUNT] = {
    [0] = {SIGFPE, FPE_INTDIV},    [1] = {SIGTRAP, TRAP_TRACE},
    [3] = {SIGTRAP, TRAP_BRKPT},   [4] = {SIGSEGV, SI_KERNEL},
    [5] = {SIGSEGV, SI_KERNEL},    [6] = {SIGILL, ILL_ILLOPN},
    [7] = {SIGILL, ILL_ILLOPN},    [11] = {SIGBUS, SI_KERNEL},
    [12] = {SIGBUS, SI_KERNEL},    [13] = {SIGSEGV, SI_KERNEL},
    [14] = {SIGSEGV, SEGV_MAPERR}, [16] = {SIGFPE, FPE_FLTINV},
    [17] = {SIGBUS, BUS_ADRALN},   [19] = {SIGFPE, 0},
};

/* MXCSR's exception flags that are not masked, as a code of SIGFPE. */
static int vector_float_code(void) {
    uint32_t state;
    __asm__ volatile("stmxcsr %0" : "=m"(state));
    uint32_t raised = state & ~(state >> 7);
    return raised & 1      ? FPE_FLTINV
           : raised & 4    ? FPE_FLTDIV
           : raised & 8    ? FPE_FLTOVF
           : raised & 0x12 ? FPE_FLTUND
                           : FPE_FLTRES;
}

void exception_enter(struct registers *registers) {
    unsigned vector = registers->number % VECTOR_COUNT;
    int number = fault_signals[vector].number ? fault_signals[vector].number : SIGSEGV;
    int code = number == SIGFPE && vector == 19 ? vector_float_code() : fault_signals[vector].code;
    if (number == SIGSEGV && vector != VECTOR_PAGE_FAULT)
        code = SI_KERNEL;
    uint64_t address = vector == VECTOR_PAGE_FAULT ? host_fault_address()
                       : code == SI_KERNEL         ? 0
                                                   : registers->rip;
    current->fault_address = address;
    signal_fault(number, code, address);
    signal_deliver(registers, false);
}

/* ---- exceptions of the library OS itself ----------------------------------------------------- */
_Noreturn void libos_fault(const struct registers *registers) {
    char line[200];
    struct text text = {line, sizeof line, 0};
    text_string(&text, "library OS: exception ");
    text_decimal(&text, registers->number);
    text_string(&text, " at 0x");
    text_number(&text, registers->rip, 16, 1);
    text_string(&text, ", stack 0x");
    text_number(&text, registers->rsp, 16, 1);
    text_string(&text, ", address 0x");
    text_number(&text, registers->number == VECTOR_PAGE_FAULT ? host_fault_address() : 0, 16, 1);
    text_string(&text, "\n");
    console_write(HL_CONSOLE_STDERR, line, text.used);
    guest_exit(128 + SIGSEGV);
}
