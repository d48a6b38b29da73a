/* entry.S: where the library OS is entered and left: boot, syscalls, exceptions, task switches.
 *
 * Frames on a kernel stack are struct registers of process.h. The program's flags are replaced on
 * entry, so that its direction and alignment-check flags do not reach C code.
 */
#include "hl_abi.h"
#include "process.h"

#define CONTROL(field) HL_CONTROL_ADDRESS + field

.macro push_general
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
.endm

.macro pop_general
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
.endm

    .bss
    .balign 16
boot_stack:
    .skip 0x4000
boot_stack_top:
program_stack: /* the program's RSP while its frame is being built */
    .skip 8

    .text
    .globl libos_start
libos_start:
    mov $boot_stack_top, %esp
    xor %ebp, %ebp
    call boot

/* RAX is the syscall's number; return address and flags are in the control block. */
    .globl syscall_entry
syscall_entry:
    mov %rsp, program_stack
    mov kernel_stack, %rsp
    push $HL_SELECTOR_USER_DATA
    push program_stack
    push CONTROL(HL_CONTROL_SYSCALL_RFLAGS)
    mov CONTROL(HL_CONTROL_SYSCALL_RIP), %rcx
    jmp 1f

/* The same without a trap: the return address is in RCX, the flags are where they are. */
    .globl syscall_direct_entry
syscall_direct_entry:
    mov %rsp, program_stack
    mov kernel_stack, %rsp
    push $HL_SELECTOR_USER_DATA
    push program_stack
    pushfq
1:  mov (%rsp), %r11
    push $HL_SELECTOR_USER_CODE
    push %rcx
    push $0
    push %rax
    push_general
    push $HL_RFLAGS
    popfq
    mov %rsp, %rdi
    call syscall_enter
    test %eax, %eax
    jnz return_fully
    pop_general
    /* RCX and R11 hold return address and flags, as after a real sysret. */
    add $REGISTERS_RFLAGS - REGISTERS_NUMBER, %rsp
    popfq
    pop %rsp
    jmp *%rcx

/* On the exception stack, which the next exception overwrites: move the frame to the task's. */
    .globl exception_entry
exception_entry:
    push_general
    push $HL_RFLAGS
    popfq
    mov %rsp, %rdi
    mov REGISTERS_RIP(%rsp), %rax
    cmp $libos_begin, %rax
    jb 1f
    cmp $libos_end, %rax
    jb libos_fault
1:  mov %rsp, %rsi
    mov kernel_stack, %rsp
    sub $REGISTERS_SIZE, %rsp
    mov %rsp, %rdi
    mov $REGISTERS_SIZE / 8, %ecx
    rep movsq
    mov %rsp, %rdi
    call exception_enter

/* All registers as the frame has them. */
return_fully:
    pop_general
    add $REGISTERS_RIP - REGISTERS_NUMBER, %rsp
    iretq

    .globl task_begin
task_begin:
    jmp return_fully

    .globl program_enter
program_enter:
    mov %rdi, %rsp
    jmp return_fully

    .globl context_switch
context_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret

    .section .note.GNU-stack, "", @progbits
