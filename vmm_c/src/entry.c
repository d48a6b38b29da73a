/* entry.c: the only code of the host that runs in the guest: where syscalls and exceptions arrive.
 *
 * It is placed on a read-only page. On VT-x and AMD-V `syscall` arrives in ring 0 and leaves it with
 * the next sysretq; the page-table KVM never enters ring 0 at all. All registers but RCX and R11 are
 * the program's, so the control block, at an absolute address, is the only scratch space.
 */
#include "internal.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
/* Gives a number of hl_abi.h a name in the assembler. */
#define SYMBOL(name, value) ".set " #name ", " TEXT(value) "\n"

/* clang-format off */
__asm__(
    ".pushsection .rodata\n"
    ".globl entry_code, entry_exceptions, entry_code_end\n"
    ".hidden entry_code, entry_exceptions, entry_code_end\n"
    SYMBOL(syscall_rip, HL_CONTROL_ADDRESS + HL_CONTROL_SYSCALL_RIP)
    SYMBOL(syscall_rflags, HL_CONTROL_ADDRESS + HL_CONTROL_SYSCALL_RFLAGS)
    SYMBOL(syscall_entry, HL_CONTROL_ADDRESS + HL_CONTROL_SYSCALL_ENTRY)
    SYMBOL(exception_entry, HL_CONTROL_ADDRESS + HL_CONTROL_EXCEPTION_ENTRY)
    SYMBOL(ring3_rflags, HL_RFLAGS)
    SYMBOL(fault_port, HL_PORT_FAULT)

    "  .balign 16\n"
    "entry_code:\n"
    "  mov %rcx, syscall_rip\n"
    "  mov %r11, syscall_rflags\n"
    "  mov %cs, %ecx\n"
    "  test $3, %cl\n"
    "  jz 1f\n"
    "  jmp *syscall_entry\n"
    /* Ring 0. A non-canonical entry faults here, finds no ring-0 gate and shuts the VM down. */
    "1: mov syscall_entry, %rcx\n"
    "  mov $ring3_rflags, %r11d\n"
    "  sysretq\n"

    "  .balign 16\n"
    "entry_exceptions:\n"
    "  .set vector, 0\n"
    "  .rept 32\n"
    /* Intel SDM vol. 3, table 6-1: the vectors for which the CPU itself pushes an error code. */
    "    .if (vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17)"
    "        && (vector != 21) && (vector != 29) && (vector != 30)\n"
    "      push $0\n"
    "    .endif\n"
    "    push $vector\n"
    "    jmp 2f\n"
    "    .balign 16\n"
    "    .set vector, vector + 1\n"
    "  .endr\n"
    "2: cmpq $0, exception_entry\n"
    "  je 3f\n"
    "  jmp *exception_entry\n"
    "3: out %eax, $fault_port\n"
    "  jmp 3b\n"
    "entry_code_end:\n"
    "  .popsection\n");
/* clang-format on */
