/* signal_frame.c: what a signal handler finds on its stack, and the way back from it. */
#include "process.h"
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#define RED_ZONE 128         /* System V ABI for x86-64, 3.2.2 */
#define VECTORS_ALIGNMENT 64 /* Intel SDM vol. 1, 13.4 */
#define LEGACY_SIZE 512      /* of an xsave area, where its header begins */
#define HEADER_SIZE 64
#define SOFTWARE_OFFSET 464 /* bytes the CPU leaves alone: struct _fpx_sw_bytes */
/* What a program may set in RFLAGS: CF PF AF ZF SF TF DF OF AC ID. */
#define USER_FLAGS 0x240dd5UL
#define HANDLER_CLEARS 0x10500UL /* RF DF TF */

/* As the kernel's headers and glibc's unwinder expect it. */
struct frame {
    uint64_t return_address;
    struct ucontext context;
    siginfo_t details;
};

size_t signal_frame_size(void) {
    return RED_ZONE + sizeof(struct frame) + vectors_size + sizeof(uint32_t) + VECTORS_ALIGNMENT +
           16;
}

static bool on_stack(const stack_t *stack, uint64_t address) {
    uint64_t start = (uint64_t)stack->ss_sp;
    return address > start && address - start <= stack->ss_size;
}

/* asm/sigcontext.h: how user space recognizes an xsave area and its size. */
static void save_vectors(uint8_t *area) {
    memset(area + LEGACY_SIZE, 0, HEADER_SIZE);
    vectors_save(area);
    *(struct _fpx_sw_bytes *)(area + SOFTWARE_OFFSET) = (struct _fpx_sw_bytes){
        .magic1 = FP_XSTATE_MAGIC1,
        .extended_size = (uint32_t)(vectors_size + FP_XSTATE_MAGIC2_SIZE),
        .xfeatures = vectors_features,
        .xstate_size = (uint32_t)vectors_size,
    };
    *(uint32_t *)(area + vectors_size) = FP_XSTATE_MAGIC2;
}

static void save_registers(struct sigcontext *to, const struct registers *from) {
    *to = (struct sigcontext){
        .r8 = from->r8,
        .r9 = from->r9,
        .r10 = from->r10,
        .r11 = from->r11,
        .r12 = from->r12,
        .r13 = from->r13,
        .r14 = from->r14,
        .r15 = from->r15,
        .rdi = from->rdi,
        .rsi = from->rsi,
        .rbp = from->rbp,
        .rbx = from->rbx,
        .rdx = from->rdx,
        .rax = from->rax,
        .rcx = from->rcx,
        .rsp = from->rsp,
        .rip = from->rip,
        .eflags = from->rflags,
        .cs = HL_SELECTOR_USER_CODE,
        .ss = HL_SELECTOR_USER_DATA,
        .err = from->error,
        .trapno = from->number,
        .cr2 = current->fault_address,
    };
}

static void restore_registers(struct registers *to, const struct sigcontext *from) {
    *to = (struct registers){
        .r8 = from->r8,
        .r9 = from->r9,
        .r10 = from->r10,
        .r11 = from->r11,
        .r12 = from->r12,
        .r13 = from->r13,
        .r14 = from->r14,
        .r15 = from->r15,
        .rdi = from->rdi,
        .rsi = from->rsi,
        .rbp = from->rbp,
        .rbx = from->rbx,
        .rdx = from->rdx,
        .rax = from->rax,
        .rcx = from->rcx,
        .rsp = from->rsp,
        .rip = from->rip,
        .rflags = (from->eflags & USER_FLAGS) | HL_RFLAGS,
        .cs = HL_SELECTOR_USER_CODE,
        .ss = HL_SELECTOR_USER_DATA,
        .number = to->number,
    };
}

static uint64_t choose_stack(const struct registers *registers, const signal_action *action) {
    const stack_t *stack = &current->signals.stack;
    bool alternate = action->sa_flags & SA_ONSTACK && !(stack->ss_flags & SS_DISABLE) &&
                     stack->ss_size && !on_stack(stack, registers->rsp);
    return alternate ? (uint64_t)stack->ss_sp + stack->ss_size : registers->rsp - RED_ZONE;
}

static void fill_context(struct ucontext *context, const struct registers *registers,
                         uint8_t *vectors) {
    struct signals *signals = &current->signals;
    memset(context, 0, sizeof *context);
    context->uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    context->uc_stack = signals->stack;
    save_registers(&context->uc_mcontext, registers);
    context->uc_mcontext.fpstate = (void *)vectors;
    context->uc_sigmask = signals->has_saved ? signals->saved : signals->blocked;
    context->uc_mcontext.oldmask = context->uc_sigmask;
    signals->has_saved = false;
}

bool signal_enter(struct registers *registers, int number, const siginfo_t *details,
                  const signal_action *action) {
    uint64_t top = choose_stack(registers, action);
    uint64_t vectors = (top - vectors_size - FP_XSTATE_MAGIC2_SIZE) & -(uint64_t)VECTORS_ALIGNMENT;
    /* At a function's first instruction the stack is 8 bytes off a multiple of 16. */
    uint64_t place = ((vectors - sizeof(struct frame)) & -16UL) - 8;
    struct frame *frame = (struct frame *)place;
    if (top < place || !user_range_ok(frame, top - place))
        return false;
    save_vectors((uint8_t *)vectors);
    fill_context(&frame->context, registers, (uint8_t *)vectors);
    frame->details = *details;
    frame->return_address = (uint64_t)action->sa_restorer;
    current->signals.blocked |=
        action->sa_mask | (action->sa_flags & SA_NODEFER ? 0 : signal_bit(number));
    registers->rip = (uint64_t)action->sa_handler;
    registers->rsp = place;
    registers->rdi = (uint64_t)number;
    registers->rsi = (uint64_t)&frame->details;
    registers->rdx = (uint64_t)&frame->context;
    registers->rax = 0;
    registers->rflags &= ~HANDLER_CLEARS;
    return true;
}

/* The handler has returned to its restorer, which has popped the return address. */
long sys_rt_sigreturn(const struct syscall_arguments *arguments) {
    struct registers *registers = current->registers;
    const struct frame *frame = (const struct frame *)(registers->rsp - sizeof(uint64_t));
    (void)arguments;
    if (!user_range_ok(frame, sizeof *frame))
        process_exit(128 + SIGSEGV);
    const struct ucontext *context = &frame->context;
    const void *vectors = context->uc_mcontext.fpstate;
    if (vectors) {
        if (!user_range_ok(vectors, vectors_size) || (uint64_t)vectors % VECTORS_ALIGNMENT)
            process_exit(128 + SIGSEGV);
        vectors_restore(vectors);
    }
    current->signals.blocked = context->uc_sigmask & ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    current->signals.stack = context->uc_stack;
    restore_registers(registers, &context->uc_mcontext);
    current->registers_changed = true;
    return (long)registers->rax;
}

/* ---- sigaltstack(2) -------------------------------------------------------------------------- */
long sys_sigaltstack(const struct syscall_arguments *arguments) {
    const stack_t *wanted = (const stack_t *)arguments->a[0];
    stack_t *old = (stack_t *)arguments->a[1];
    stack_t *stack = &current->signals.stack;
    bool in_use = !(stack->ss_flags & SS_DISABLE) && on_stack(stack, current->registers->rsp);
    stack_t before = *stack;
    before.ss_flags |= in_use ? SS_ONSTACK : 0;
    if (!user_optional_ok(wanted, sizeof *wanted) || !user_optional_ok(old, sizeof *old))
        return -EFAULT;
    if (wanted) {
        int flags = wanted->ss_flags & ~(int)SS_AUTODISARM;
        if (in_use)
            return -EPERM;
        if (flags != 0 && flags != SS_ONSTACK && flags != SS_DISABLE)
            return -EINVAL;
        if (flags != SS_DISABLE && wanted->ss_size < MINSIGSTKSZ)
            return -ENOMEM;
        *stack = (stack_t){
            .ss_sp = wanted->ss_sp, .ss_flags = flags & SS_DISABLE, .ss_size = wanted->ss_size};
    }
    if (old)
        *old = before;
    return 0;
}
