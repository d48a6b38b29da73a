/* vm.c: making and closing a VM, and reaching its memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "internal.h"

uint32_t hl_abi_version(void) { return HL_ABI_VERSION; }

static int check_kvm(int fd) {
    static const int needed[] = {KVM_CAP_USER_MEMORY,    KVM_CAP_READONLY_MEM,
                                 KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_XSAVE,
                                 KVM_CAP_XCRS,           KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        return hl_fail(-EPROTO, "/dev/kvm speaks API version %d", version);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i]) <= 0)
            return hl_fail(-EOPNOTSUPP, "this KVM lacks capability %d", needed[i]);
    return 0;
}

static int open_kvm(void) {
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return hl_fail(-errno, "/dev/kvm: %s", strerror(errno));
    int result = check_kvm(fd);
    if (!result)
        return fd;
    close(fd);
    return result;
}

int hl_probe(void) {
    int fd = open_kvm();
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

static int check_config(const struct hl_config *config) {
    uint64_t buffers = (uint64_t)config->in_size + config->out_size + config->console_size;
    if (config->memory % 0x200000 || config->memory > HL_RAM_MAXIMUM || !config->memory)
        return hl_fail(-EINVAL, "memory must be a multiple of 2 MiB and at most 16 GiB");
    if ((config->in_size | config->out_size | config->console_size) % HL_PAGE_SIZE ||
        !config->in_size || !config->out_size || !config->console_size)
        return hl_fail(-EINVAL, "buffers must be multiples of 4 KiB and not empty");
    if (buffers + (HL_GUEST_ADDRESS - HL_RAM_ADDRESS) >= config->memory)
        return hl_fail(-EINVAL, "the buffers leave no memory for the guest");
    return 0;
}

static void *map(size_t size, int protection, int flags, int fd) {
    void *place = mmap(NULL, size, protection, flags, fd, 0);
    return place == MAP_FAILED ? NULL : place;
}

static int register_memory(hl_vm *vm, enum memory_slot slot, uint32_t flags, uint64_t address,
                           void *place, size_t size) {
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .flags = flags,
                                                 .guest_phys_addr = address,
                                                 .memory_size = size,
                                                 .userspace_addr = (uint64_t)place};
    return vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

int vm_register_ram(hl_vm *vm, bool log) {
    int result = register_memory(vm, HL_SLOT_RAM, log ? KVM_MEM_LOG_DIRTY_PAGES : 0, HL_RAM_ADDRESS,
                                 vm->ram, vm->config.memory);
    if (!result) {
        vm->ram_offered = true;
        vm->log_on = log;
    }
    return result;
}

static int init_image(hl_vm *vm) {
    struct stat file;
    if (vm->config.image_fd < 0)
        return 0;
    if (fstat(vm->config.image_fd, &file))
        return hl_fail(-errno, "the image file: %s", strerror(errno));
    if (!S_ISREG(file.st_mode))
        return hl_fail(-EINVAL, "the image is not a regular file");
    if (file.st_size <= 0 || (uint64_t)file.st_size > HL_IMAGE_MAXIMUM)
        return hl_fail(-EINVAL,
                       "an image of %lld bytes; it must not be empty nor larger than 16 GiB",
                       (long long)file.st_size);
    vm->image_size = (size_t)file.st_size;
    vm->image_mapped = (vm->image_size + HL_PAGE_SIZE - 1) & ~(size_t)(HL_PAGE_SIZE - 1);
    vm->image = map(vm->image_mapped, PROT_READ, MAP_SHARED, vm->config.image_fd);
    if (!vm->image)
        return hl_fail(-errno, "mapping the image: %s", strerror(errno));
    return register_memory(vm, HL_SLOT_IMAGE, KVM_MEM_READONLY, HL_IMAGE_ADDRESS, vm->image,
                           vm->image_mapped);
}

static int init_memory(hl_vm *vm) {
    size_t pages = vm->config.memory / HL_PAGE_SIZE;
    vm->system = map(HL_SYSTEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    vm->ram = map(vm->config.memory, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (!vm->system || !vm->ram)
        return hl_fail(-errno, "mapping the guest's memory: %s", strerror(errno));
    /* Who loads a program from an image touches thousands of pages for the first time, each a fault of
     * KVM; a guest that comes alone touches few. */
    if (vm->config.image_fd >= 0)
        madvise(vm->ram, vm->config.memory, MADV_HUGEPAGE);
    int result = page_set_init(&vm->written, pages);
    if (!result)
        result = page_set_init(&vm->scratch, pages);
    if (!result)
        result =
            register_memory(vm, HL_SLOT_SYSTEM, KVM_MEM_READONLY, 0, vm->system, HL_SYSTEM_PML4);
    if (!result)
        result = register_memory(vm, HL_SLOT_TABLES, 0, HL_SYSTEM_PML4, vm->system + HL_SYSTEM_PML4,
                                 HL_SYSTEM_SIZE - HL_SYSTEM_PML4);
    return result ? result : init_image(vm);
}

static int init_vcpu(hl_vm *vm, int kvm_fd) {
    struct kvm_enable_cap keep_log = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                      .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
    vm->vcpu_fd = vm_ioctl(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
    if (vm->vcpu_fd < 0)
        return vm->vcpu_fd;
    int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof *vm->run)
        return hl_fail(-EIO, "KVM_GET_VCPU_MMAP_SIZE gives %d", size);
    vm->run_size = (size_t)size;
    vm->run = map(vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu_fd);
    if (!vm->run)
        return hl_fail(-errno, "mapping kvm_run: %s", strerror(errno));
    int result = vm_ioctl(vm, KVM_ENABLE_CAP, &keep_log, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
    return result ? result : cpu_init(vm, kvm_fd);
}

int hl_vm_create(const struct hl_config *config, hl_vm **out) {
    int result = check_config(config);
    if (!result)
        result = watchdog_start();
    if (result)
        return result;
    int kvm_fd = open_kvm();
    if (kvm_fd < 0)
        return kvm_fd;
    hl_vm *vm = calloc(1, sizeof *vm);
    if (!vm) {
        close(kvm_fd);
        return hl_fail(-ENOMEM, "no memory for a VM");
    }
    vm->config = *config;
    vm->vcpu_fd = vm->wake_fd = -1;
    vm->deadline_ns = vm->cpu_deadline_ns = INT64_MAX;
    pthread_mutex_init(&vm->lock, NULL);
    vm->vm_fd = kvm_ioctl(kvm_fd, KVM_CREATE_VM, NULL);
    if (vm->vm_fd < 0)
        result = hl_fail(-errno, "KVM_CREATE_VM: %s", strerror(errno));
    if (!result)
        result = init_memory(vm);
    if (!result)
        result = init_vcpu(vm, kvm_fd);
    if (!result) {
        system_build(vm);
        result = boot_info_init(vm);
    }
    close(kvm_fd);
    vm->config.image_fd = -1;
    if (!result)
        *out = vm;
    else
        hl_vm_close(vm);
    return result;
}

void hl_vm_close(hl_vm *vm) {
    if (!vm)
        return;
    if (vm->run)
        munmap(vm->run, vm->run_size);
    if (vm->vcpu_fd >= 0)
        close(vm->vcpu_fd);
    if (vm->vm_fd >= 0)
        close(vm->vm_fd);
    if (vm->ram)
        munmap(vm->ram, vm->config.memory);
    if (vm->image)
        munmap(vm->image, vm->image_mapped);
    if (vm->system)
        munmap(vm->system, HL_SYSTEM_SIZE);
    if (vm->wake_fd >= 0)
        close(vm->wake_fd);
    page_set_free(&vm->written);
    page_set_free(&vm->scratch);
    hl_snapshot_unref(vm->base);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

/* ---- memory ---------------------------------------------------------------------------------------- */
uint64_t hl_vm_in_address(const hl_vm *vm) {
    return HL_RAM_ADDRESS + vm->config.memory - vm->config.in_size;
}
uint64_t hl_vm_out_address(const hl_vm *vm) { return hl_vm_in_address(vm) - vm->config.out_size; }
uint64_t hl_vm_console_address(const hl_vm *vm) {
    return hl_vm_out_address(vm) - vm->config.console_size;
}
uint64_t vm_guest_end(const hl_vm *vm) { return hl_vm_console_address(vm); }

void *hl_vm_pointer(hl_vm *vm, uint64_t address, size_t size, int writable) {
    uint64_t offset = address - HL_RAM_ADDRESS;
    if (address < HL_RAM_ADDRESS || offset > vm->config.memory || size > vm->config.memory - offset)
        return NULL;
    if (writable && size) {
        size_t first = offset / HL_PAGE_SIZE, last = (offset + size - 1) / HL_PAGE_SIZE;
        page_set_add_range(&vm->written, first, last - first + 1);
        vm->touched = true;
    }
    return vm->ram + offset;
}

static int outside(uint64_t address, size_t size) {
    return hl_fail(-EFAULT, "%zu bytes at %#llx are not in the guest's memory", size,
                   (unsigned long long)address);
}

int hl_vm_read(hl_vm *vm, uint64_t address, void *to, size_t size) {
    const void *place = hl_vm_pointer(vm, address, size, 0);
    if (!place)
        return outside(address, size);
    memcpy(to, place, size);
    return 0;
}

int hl_vm_write(hl_vm *vm, uint64_t address, const void *from, size_t size) {
    void *place = hl_vm_pointer(vm, address, size, 1);
    if (!place)
        return outside(address, size);
    memcpy(place, from, size);
    return 0;
}

void hl_vm_set_table_version(hl_vm *vm, uint64_t version) {
    boot_info(vm)->table_version = version;
}
void hl_vm_get_counters(const hl_vm *vm, struct hl_counters *counters) { *counters = vm->counters; }
