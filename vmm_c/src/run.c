/* run.c: running the guest until the host is needed, and what each way of leaving means. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "internal.h"

/* How long the guest may go from exit to exit before the process has a look at its signals: one that
 * arrives outside of KVM_RUN and ppoll interrupts neither. */
#define LOOK_EVERY_NS 10000000

static struct hl_control *control_of(hl_vm *vm) { return (struct hl_control *)vm->ram; }

static int finish(struct hl_exit *result, enum hl_exit_kind kind, uint32_t value) {
    result->kind = kind;
    result->value = value;
    return 0;
}

static int finish_kicked(struct hl_exit *result, unsigned kicks) {
    if (kicks & KICK_KILL)
        return finish(result, HL_EXIT_KILLED, 0);
    return finish(result, kicks & KICK_DEADLINE ? HL_EXIT_TIMEOUT : HL_EXIT_CPU_TIME, 0);
}

static int violation(struct hl_exit *result, uint32_t value, const char *text) {
    hl_fail(0, "%s (KVM exit %u)", text, value);
    return finish(result, HL_EXIT_VIOLATION, value);
}

/* The host's own exception entry has left a frame on the guest's exception stack: only for the report. */
static int report_fault(hl_vm *vm, struct hl_exit *result) {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint64_t frame[2] = {0};
    int error = vcpu_ioctl(vm, KVM_GET_REGS, &regs, "KVM_GET_REGS");
    if (!error)
        error = vcpu_ioctl(vm, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    if (error)
        return error;
    if (hl_vm_read(vm, regs.rsp, frame, sizeof frame))
        frame[0] = 0xff;
    result->vector = (uint32_t)frame[0];
    result->error_code = frame[1];
    /* Who hands the exception on to the guest sets registers, and must not lose this one. */
    result->address = vm->system_registers.cr2 = sregs.cr2;
    return finish(result, HL_EXIT_FAULT, 0);
}

static int answer_fault_address(hl_vm *vm) {
    struct kvm_sregs sregs;
    int error = vcpu_ioctl(vm, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    if (error)
        return error;
    return hl_vm_write(vm, HL_CONTROL_ADDRESS + offsetof(struct hl_control, fault_address),
                       &sregs.cr2, sizeof sregs.cr2);
}

/* The same results as of on_port. */
static int release(hl_vm *vm, struct hl_exit *result) {
    uint64_t address = __atomic_load_n(&control_of(vm)->release_address, __ATOMIC_RELAXED);
    uint64_t size = __atomic_load_n(&control_of(vm)->release_size, __ATOMIC_RELAXED);
    uint64_t end = vm_guest_end(vm);
    if ((address | size) % HL_PAGE_SIZE || size > HL_RELEASE_MAXIMUM ||
        address < HL_GUEST_ADDRESS || address > end || size > end - address)
        return violation(result, KVM_EXIT_IO, "the guest gave memory back that is not its"), 1;
    return release_range(vm, address, size);
}

/* The guest sleeps. 0 when it may go on, 1 when *result says what happened instead. */
static int sleep_blocked(hl_vm *vm, int64_t deadline_ns, struct hl_exit *result) {
    int64_t until = __atomic_load_n(&control_of(vm)->park_deadline_ns, __ATOMIC_RELAXED);
    if (until > deadline_ns)
        until = deadline_ns;
    int error = watchdog_wait(vm, until);
    if (error == -EINTR)
        return finish(result, HL_EXIT_SIGNAL, 0), 1;
    if (error)
        return error;
    if (until == deadline_ns && monotonic_ns() >= deadline_ns)
        return finish(result, HL_EXIT_TIMEOUT, 0), 1;
    boot_info_set_clock(vm);
    return 0;
}

/* 0 to run on, 1 when *result is filled in, or -errno. */
static int on_port(hl_vm *vm, const struct hl_limits *limits, struct hl_exit *result) {
    const struct kvm_run *run = vm->run;
    uint32_t value;
    if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != sizeof value || run->io.count != 1)
        return violation(result, run->exit_reason,
                         "the guest used a port in a way the ABI does not know"),
               1;
    memcpy(&value, (const uint8_t *)run + run->io.data_offset, sizeof value);
    switch (run->io.port) {
    case HL_PORT_CALL: return finish(result, HL_EXIT_CALL, value), 1;
    case HL_PORT_CONSOLE: return finish(result, HL_EXIT_CONSOLE, value), 1;
    case HL_PORT_EXIT: return finish(result, HL_EXIT_ENDED, value & 0xff), 1;
    case HL_PORT_FAULT: {
        int error = report_fault(vm, result);
        return error ? error : 1;
    }
    case HL_PORT_FAULT_ADDRESS: return answer_fault_address(vm);
    case HL_PORT_RELEASE: return release(vm, result);
    case HL_PORT_PARK:
        if (value == HL_PARK_IDLE)
            return finish(result, HL_EXIT_PARK, value), 1;
        if (value == HL_PARK_BLOCKED)
            return sleep_blocked(vm, limits->deadline_ns, result);
    }
    return violation(result, run->exit_reason, "the guest used a port that is not its"), 1;
}

static int on_exit(hl_vm *vm, const struct hl_limits *limits, struct hl_exit *result) {
    switch (vm->run->exit_reason) {
    case KVM_EXIT_IO: return on_port(vm, limits, result);
    case KVM_EXIT_INTR: return finish(result, HL_EXIT_SIGNAL, 0), 1;
    case KVM_EXIT_SHUTDOWN:
        return violation(result, KVM_EXIT_SHUTDOWN, "the guest's CPU shut down"), 1;
    case KVM_EXIT_MMIO:
        result->address = vm->run->mmio.phys_addr;
        return violation(result, KVM_EXIT_MMIO, "the guest reached for memory it does not have"), 1;
    case KVM_EXIT_INTERNAL_ERROR:
        return violation(result, KVM_EXIT_INTERNAL_ERROR,
                         "KVM cannot go on with what the guest does"),
               1;
    default:
        return violation(result, vm->run->exit_reason, "the guest left in an unexpected way"), 1;
    }
}

static int run_once(hl_vm *vm, const struct hl_limits *limits, struct hl_exit *result) {
    unsigned kicks = watchdog_enter(vm);
    if (kicks)
        return finish_kicked(result, kicks), 1;
    int error = ioctl(vm->vcpu_fd, KVM_RUN, 0) ? errno : 0;
    watchdog_leave(vm);
    vm->counters.exits++;
    if (!error) {
        vm->entry_pending =
            vm->run->exit_reason == KVM_EXIT_IO || vm->run->exit_reason == KVM_EXIT_MMIO;
        int state = on_exit(vm, limits, result);
        bool look = state == 0 && monotonic_ns() >= vm->look_ns;
        return look ? (finish(result, HL_EXIT_SIGNAL, 0), 1) : state;
    }
    vm->entry_pending = false;
    if (error != EINTR)
        return hl_fail(-error, "KVM_RUN: %s", strerror(error));
    /* A kick is reported by the next enter; anything else is the process's own business. */
    kicks = watchdog_enter(vm);
    watchdog_leave(vm);
    return kicks ? 0 : (finish(result, HL_EXIT_SIGNAL, 0), 1);
}

static int check_console(hl_vm *vm, struct hl_exit *result) {
    uint32_t used = __atomic_load_n(&control_of(vm)->console_used, __ATOMIC_RELAXED);
    if (used > vm->config.console_size) {
        /* It was the host that stopped the guest: that remains the reason. */
        if (result->kind >= HL_EXIT_TIMEOUT)
            return 0;
        return violation(result, 0, "the guest claims more console text than its buffer holds");
    }
    result->console_used = used;
    vm->console_taken = used != 0;
    return 0;
}

void run_empty_console(hl_vm *vm) {
    if (!vm->console_taken)
        return;
    const uint32_t none = 0;
    hl_vm_write(vm, HL_CONTROL_ADDRESS + offsetof(struct hl_control, console_used), &none,
                sizeof none);
    vm->console_taken = false;
}

static int64_t thread_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int hl_vm_run(hl_vm *vm, size_t written, const struct hl_limits *limits, struct hl_exit *result) {
    memset(result, 0, sizeof *result);
    if (!hl_vm_pointer(vm, hl_vm_in_address(vm), written, 1))
        return hl_fail(-EFAULT, "the in buffer has less than %zu bytes", written);
    if (!vm->loaded)
        return hl_fail(-ENOEXEC, "nothing is loaded into the VM");
    run_empty_console(vm);
    bool budget = limits->cpu_ns != INT64_MAX;
    int64_t cpu_start = budget ? thread_cpu_ns() : 0;
    vm->ran = vm->touched = true;
    boot_info_set_clock(vm);
    vm->look_ns = boot_info(vm)->clock.monotonic_ns + LOOK_EVERY_NS;
    watchdog_arm(vm, limits, cpu_start);
    int state;
    do
        state = run_once(vm, limits, result);
    while (state == 0);
    watchdog_disarm(vm);
    if (budget)
        result->cpu_ns = thread_cpu_ns() - cpu_start;
    return state < 0 ? state : check_console(vm, result);
}
