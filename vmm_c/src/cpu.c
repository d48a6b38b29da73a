/* cpu.c: the vCPU: what the guest may see of the processor, and its ring-3 state. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "internal.h"

/* MSR numbers: Intel SDM vol. 4, table 2-2. */
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_SFMASK 0xc0000084
#define RFLAGS_TRAP 0x100

#define CR0_VALUE 0x80050033 /* PE MP ET NE WP AM PG */
#define CR4_VALUE                                                                                  \
    0x50620 /* PAE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE; no SMEP: entry code is user code */
#define EFER_VALUE 0xd01 /* SCE LME LMA NXE */
/* x87, SSE, AVX and AVX-512; not PKRU and not AMX, which a guest in ring 3 has no use for. */
#define XCR0_MAXIMUM 0xe7

int kvm_ioctl(int fd, unsigned long request, void *argument) {
    int result;
    do
        result = ioctl(fd, request, argument);
    while (result < 0 && errno == EINTR);
    return result;
}

int vcpu_ioctl(hl_vm *vm, unsigned long request, void *argument, const char *name) {
    vm->counters.ioctls++;
    if (kvm_ioctl(vm->vcpu_fd, request, argument) >= 0)
        return 0;
    return hl_fail(-errno, "%s: %s", name, strerror(errno));
}

int vm_ioctl(hl_vm *vm, unsigned long request, void *argument, const char *name) {
    vm->counters.ioctls++;
    int result = kvm_ioctl(vm->vm_fd, request, argument);
    if (result >= 0)
        return result;
    return hl_fail(-errno, "%s: %s", name, strerror(errno));
}
#define VCPU(vm, request, argument) vcpu_ioctl(vm, request, argument, #request)

/* ---- CPUID: what is not named here reads as zero -------------------------------------------------- */
struct cpuid_rule {
    uint32_t leaf, eax, ebx, ecx, edx; /* bits let through */
};
#define ALL 0xffffffff
static const struct cpuid_rule cpuid_rules[] = {
    {0x0, ALL, ALL, ALL, ALL},
    /* ECX without MONITOR, VMX, SMX, TM2, PDCM, PCID, DCA, x2APIC, TSC-deadline. */
    {0x1, ALL, ALL, 0xfe9a3603 | 0x08000000, ALL},
    {0x2, ALL, ALL, ALL, ALL},
    {0x4, ALL, ALL, ALL, ALL},
    /* EBX: instructions only. ECX without PKU, OSPKE, WAITPKG, SHSTK, ENQCMD, KL. EDX without AMX, IBT, UINTR. */
    {0x7, ALL, 0xf1bf07a9, 0x1a415f46, 0x00004114},
    {0xd, ALL, ALL, ALL, ALL},
    {0x80000000, ALL, ALL, ALL, ALL},
    /* ECX without SVM, IBS, SKINIT, WDT, LWP, NODEID, TOPOEXT, PERFCTR, MWAITX. */
    {0x80000001, ALL, ALL, 0x000149fb & ~0x4u, ALL},
    {0x80000002, ALL, ALL, ALL, ALL},
    {0x80000003, ALL, ALL, ALL, ALL},
    {0x80000004, ALL, ALL, ALL, ALL},
    {0x80000005, ALL, ALL, ALL, ALL},
    {0x80000006, ALL, ALL, ALL, ALL},
    {0x80000007, ALL, ALL, ALL, 0x100}, /* invariant TSC */
    {0x80000008, ALL, 0, 0, 0},
    {0x8000001d, ALL, ALL, ALL, ALL},
};

static bool cpuid_filter(struct kvm_cpuid_entry2 *entry) {
    for (size_t i = 0; i < sizeof cpuid_rules / sizeof *cpuid_rules; i++) {
        const struct cpuid_rule *rule = &cpuid_rules[i];
        if (rule->leaf != entry->function)
            continue;
        entry->eax &= rule->eax;
        entry->ebx &= rule->ebx;
        entry->ecx &= rule->ecx;
        entry->edx &= rule->edx;
        if (entry->function == 0xd && entry->index == 0)
            entry->eax &= XCR0_MAXIMUM, entry->edx = 0;
        /* No XSAVES: its state components are the kernel's. */
        if (entry->function == 0xd && entry->index == 1)
            entry->eax &= 0x7, entry->ecx = entry->edx = 0;
        return entry->function != 0xd || entry->index < 2 || XCR0_MAXIMUM >> entry->index & 1;
    }
    return false;
}

/* What every guest of this process may see. */
static struct {
    struct kvm_cpuid2 cpuid;
    struct kvm_cpuid_entry2 room[256]; /* cpuid.entries */
    uint64_t xcr0;
    bool known;
} features;

static void filter_features(void) {
    uint32_t kept = 0;
    features.xcr0 = 1;
    for (uint32_t i = 0; i < features.cpuid.nent; i++) {
        struct kvm_cpuid_entry2 entry = features.room[i];
        if (!cpuid_filter(&entry))
            continue;
        if (entry.function == 0xd && entry.index == 0)
            features.xcr0 = entry.eax;
        features.room[kept++] = entry;
    }
    features.cpuid.nent = kept;
    features.known = true;
}

/* Asks KVM once: it runs CPUID for each entry, which under another hypervisor is most of what the
 * making of a vCPU takes. */
static int find_features(int kvm_fd) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int result = 0;
    pthread_mutex_lock(&lock);
    if (!features.known) {
        features.cpuid.nent = sizeof features.room / sizeof *features.room;
        if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &features.cpuid) < 0)
            result = hl_fail(-errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
        else
            filter_features();
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* ---- system registers -------------------------------------------------------------------------------- */
static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code) {
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .dpl = 3,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

static int system_registers_init(hl_vm *vm) {
    struct kvm_sregs *sregs = &vm->system_registers;
    int result = VCPU(vm, KVM_GET_SREGS, sregs);
    if (result)
        return result;
    sregs->cs = segment(HL_SELECTOR_USER_CODE, 11, true);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss =
        segment(HL_SELECTOR_USER_DATA, 3, false);
    sregs->tr = (struct kvm_segment){.base = HL_SYSTEM_TSS,
                                     .limit = HL_TSS_SIZE - 1,
                                     .selector = 0x40,
                                     .type = 11,
                                     .present = 1};
    sregs->gdt.base = HL_SYSTEM_GDT;
    sregs->gdt.limit = HL_GDT_SIZE - 1;
    sregs->idt.base = HL_SYSTEM_IDT;
    sregs->idt.limit = HL_IDT_SIZE - 1;
    sregs->cr0 = CR0_VALUE;
    sregs->cr3 = HL_SYSTEM_PML4;
    sregs->cr4 = CR4_VALUE;
    sregs->efer = EFER_VALUE;
    memset(sregs->interrupt_bitmap, 0, sizeof sregs->interrupt_bitmap);
    return VCPU(vm, KVM_SET_SREGS, sregs);
}

static int msrs_init(hl_vm *vm) {
    struct {
        struct kvm_msrs header;
        struct kvm_msr_entry entries[3];
    } msrs = {
        .header.nmsrs = 3,
        .entries = {{.index = MSR_STAR, .data = UINT64_C(0x23) << 48 | UINT64_C(0x10) << 32},
                    {.index = MSR_LSTAR, .data = HL_SYSTEM_CODE},
                    /* Single-stepping must not trap in ring 0, where no exception is survived. */
                    {.index = MSR_SFMASK, .data = RFLAGS_TRAP}}};
    return VCPU(vm, KVM_SET_MSRS, &msrs);
}

/* The guest's time-stamp counter shall be the host's, so that the clock page needs no ioctl. */
static int tsc_init(hl_vm *vm) {
    uint64_t offset = 0;
    struct kvm_device_attr attribute = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)&offset};
    int result = VCPU(vm, KVM_SET_DEVICE_ATTR, &attribute);
    if (result)
        return result;
    int khz = ioctl(vm->vcpu_fd, KVM_GET_TSC_KHZ);
    if (khz <= 0)
        return hl_fail(-EIO, "KVM_GET_TSC_KHZ gives %d", khz);
    vm->tsc_multiplier = (UINT64_C(1000000) << 32) / (uint64_t)khz;
    return 0;
}

int cpu_init(hl_vm *vm, int kvm_fd) {
    int result = find_features(kvm_fd);
    if (!result)
        result = VCPU(vm, KVM_SET_CPUID2, &features.cpuid);
    if (!result)
        result = system_registers_init(vm);
    if (!result)
        result = msrs_init(vm);
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = features.xcr0}}};
    if (!result)
        result = VCPU(vm, KVM_SET_XCRS, &xcrs);
    if (!result)
        result = tsc_init(vm);
    return result;
}

/* ---- ring-3 state ---------------------------------------------------------------------------------------- */
void cpu_state_start(struct cpu_state *state, uint64_t entry, uint64_t stack) {
    memset(state, 0, sizeof *state);
    state->registers.rip = entry;
    state->registers.rsp = stack;
    state->registers.rflags = HL_RFLAGS;
    /* Reset values of the x87 control word and MXCSR, Intel SDM vol. 1, 13.6. */
    const uint16_t control = 0x37f;
    const uint32_t mxcsr = 0x1f80;
    memcpy(state->xsave, &control, sizeof control);
    memcpy(state->xsave + 24, &mxcsr, sizeof mxcsr);
}

/* A string instruction leaves once for each element, and KVM emulates up to 1024 of them in one go. */
#define FINISH_LIMIT 4096

int cpu_finish_exit(hl_vm *vm) {
    int result = 0;
    vm_set_immediate_exit(vm, true);
    for (unsigned left = FINISH_LIMIT; vm->entry_pending && left; left--) {
        vm->counters.ioctls++;
        result = ioctl(vm->vcpu_fd, KVM_RUN, 0) ? errno : 0;
        vm->entry_pending = result != EINTR;
        if (result && result != EINTR)
            break;
    }
    vm_set_immediate_exit(vm, false);
    if (!vm->entry_pending)
        return 0;
    return hl_fail(-EIO, "KVM did not finish the last exit: %s",
                   result ? strerror(result) : "it ran on");
}

/* Only the flags a program may set itself, Intel SDM vol. 1, 3.4.3; KVM on page tables hides the others. */
static uint64_t program_flags(uint64_t rflags) { return (rflags & 0x240dd5) | HL_RFLAGS; }

int hl_vm_get_registers(hl_vm *vm, struct hl_registers *to) {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    int result = cpu_finish_exit(vm);
    if (!result)
        result = VCPU(vm, KVM_GET_REGS, &regs);
    if (!result)
        result = VCPU(vm, KVM_GET_SREGS, &sregs);
    if (result)
        return result;
    *to = (struct hl_registers){
        regs.rax,      regs.rbx,     regs.rcx, regs.rdx, regs.rsi, regs.rdi,
        regs.rsp,      regs.rbp,     regs.r8,  regs.r9,  regs.r10, regs.r11,
        regs.r12,      regs.r13,     regs.r14, regs.r15, regs.rip, program_flags(regs.rflags),
        sregs.fs.base, sregs.gs.base};
    return 0;
}

/* Left in the page shared with KVM, which takes them over at the next entry: no call for each. */
static void leave_registers(hl_vm *vm, const struct hl_registers *from) {
    struct kvm_sync_regs *shared = &vm->run->s.regs;
    shared->regs = (struct kvm_regs){
        from->rax, from->rbx, from->rcx, from->rdx, from->rsi, from->rdi,
        from->rsp, from->rbp, from->r8,  from->r9,  from->r10, from->r11,
        from->r12, from->r13, from->r14, from->r15, from->rip, program_flags(from->rflags)};
    shared->sregs = vm->system_registers;
    shared->sregs.fs.base = from->fs_base;
    shared->sregs.gs.base = from->gs_base;
    vm->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    vm->entry_pending = true;
}

int hl_vm_set_registers(hl_vm *vm, const struct hl_registers *from) {
    int result = cpu_finish_exit(vm);
    if (!result) {
        leave_registers(vm, from);
        vm->touched = true;
    }
    return result;
}

int cpu_get(hl_vm *vm, struct cpu_state *state) {
    int result = hl_vm_get_registers(vm, &state->registers);
    if (!result)
        result = VCPU(vm, KVM_GET_XSAVE, state->xsave);
    return result;
}

/* What the last exit left unfinished needs no finishing: KVM moves RIP past an instruction only where
 * RIP still points at it. */
int cpu_set(hl_vm *vm, const struct cpu_state *state) {
    int result = VCPU(vm, KVM_SET_XSAVE, (void *)state->xsave);
    if (result)
        return result;
    vm->system_registers.cr2 = 0;
    leave_registers(vm, &state->registers);
    /* Nothing pending, nothing masked. */
    memset(&vm->run->s.regs.events, 0, sizeof vm->run->s.regs.events);
    vm->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    return 0;
}
