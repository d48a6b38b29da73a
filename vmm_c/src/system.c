/* system.c: the pages the host owns: descriptor tables, page tables, entry code, boot information. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <x86intrin.h>
#include "internal.h"

/* Page-table bits, Intel SDM vol. 3, 4.5. Accessed and dirty are set beforehand, which spares the CPU
 * the writes. Their slot is writable all the same, because with nested paging every look at a table
 * counts as a write: AMD APM vol. 2, 15.25.6; Intel SDM vol. 3, 28.3.3.2. No page maps them. */
#define PRESENT UINT64_C(0x1)
#define WRITABLE UINT64_C(0x2)
#define USER UINT64_C(0x4)
#define USED UINT64_C(0x60)
#define LARGE UINT64_C(0x80)
#define NO_EXECUTE (UINT64_C(1) << 63)
#define LARGE_SIZE UINT64_C(0x200000)
#define GIB UINT64_C(0x40000000)

#define PDPT (HL_SYSTEM_PML4 + 0x1000)
#define LOW_TABLE (HL_SYSTEM_PML4 + 0x2000)
#define DIRECTORIES (HL_SYSTEM_PML4 + 0x3000)
_Static_assert(
    DIRECTORIES + (HL_RAM_MAXIMUM / GIB + 1 + HL_IMAGE_MAXIMUM / GIB + 1) * 0x1000 <=
        HL_SYSTEM_SIZE,
    "the page directories of the largest guest fit, and the page table of its image's end");

static uint64_t *table(hl_vm *vm, uint64_t address) { return (uint64_t *)(vm->system + address); }

/* Takes the next free page for a table; returns the entry that points to it. */
static uint64_t take_table(uint64_t *next_free) {
    uint64_t entry = *next_free | PRESENT | WRITABLE | USER | USED;
    *next_free += HL_PAGE_SIZE;
    return entry;
}

/* A page table for [first, end), less than 2 MiB: no address that is not backed may be reached, because
 * KVM would emulate the access and leave it half done. */
static uint64_t map_small(hl_vm *vm, uint64_t first, uint64_t end, uint64_t bits,
                          uint64_t *next_free) {
    uint64_t entry = take_table(next_free);
    for (uint64_t address = first; address < end; address += HL_PAGE_SIZE)
        table(vm, entry & ~UINT64_C(0xfff))[address / HL_PAGE_SIZE % 512] = address | bits;
    return entry;
}

/* Maps [first, end) with 2 MiB pages, and what is left at the end with 4 KiB pages. */
static void map_large(hl_vm *vm, uint64_t first, uint64_t end, uint64_t bits, uint64_t *next_free) {
    for (uint64_t address = first; address < end; address += LARGE_SIZE) {
        uint64_t *slot = &table(vm, PDPT)[address / GIB];
        if (!*slot)
            *slot = take_table(next_free);
        table(vm, *slot & ~UINT64_C(0xfff))[address / LARGE_SIZE % 512] =
            end - address < LARGE_SIZE ? map_small(vm, address, end, bits, next_free)
                                       : address | bits | LARGE;
    }
}

static void map_system_page(hl_vm *vm, uint64_t address, uint64_t bits) {
    table(vm, LOW_TABLE)[address / HL_PAGE_SIZE] = address | PRESENT | USER | USED | bits;
}

static void build_page_tables(hl_vm *vm) {
    uint64_t next_free = DIRECTORIES;
    table(vm, HL_SYSTEM_PML4)[0] = PDPT | PRESENT | WRITABLE | USER | USED;
    map_large(vm, HL_RAM_ADDRESS, HL_RAM_ADDRESS + vm->config.memory,
              PRESENT | WRITABLE | USER | USED, &next_free);
    if (vm->image)
        map_large(vm, HL_IMAGE_ADDRESS, HL_IMAGE_ADDRESS + vm->image_mapped, PRESENT | USER | USED,
                  &next_free);
    table(vm, table(vm, PDPT)[0] & ~UINT64_C(0xfff))[0] =
        LOW_TABLE | PRESENT | WRITABLE | USER | USED;
    map_system_page(vm, HL_BOOT_INFO_ADDRESS, NO_EXECUTE);
    map_system_page(vm, HL_SYSTEM_GDT, NO_EXECUTE);
    map_system_page(vm, HL_SYSTEM_IDT, NO_EXECUTE);
    map_system_page(vm, HL_SYSTEM_TSS, NO_EXECUTE);
    map_system_page(vm, HL_SYSTEM_CODE, 0);
}

/* The selectors are those of Linux; KVM on page tables runs ring 3 on the host's own descriptors. */
static void build_gdt(hl_vm *vm) {
    uint64_t *gdt = table(vm, HL_SYSTEM_GDT);
    gdt[1] = 0x00cf9b000000ffff; /* 0x08 kernel code, 32 bits */
    gdt[2] = 0x00af9b000000ffff; /* 0x10 kernel code */
    gdt[3] = 0x00cf93000000ffff; /* 0x18 kernel data */
    gdt[4] = 0x00cffb000000ffff; /* 0x23 user code, 32 bits */
    gdt[5] = 0x00cff3000000ffff; /* 0x2b user data */
    gdt[6] = 0x00affb000000ffff; /* 0x33 user code */
    gdt[8] = 0x00008b0000000000 | (HL_TSS_SIZE - 1) | (uint64_t)HL_SYSTEM_TSS << 16; /* 0x40 TSS */
}

/* Gates straight into ring 3, on interrupt stack 1: Intel SDM vol. 3, 6.14.1. */
static void build_idt(hl_vm *vm) {
    uint64_t *idt = table(vm, HL_SYSTEM_IDT);
    uint64_t entries = HL_SYSTEM_CODE + (uint64_t)(entry_exceptions - entry_code);
    for (uint64_t vector = 0; vector < 32; vector++) {
        uint64_t entry = entries + vector * HL_EXCEPTION_ENTRY_SIZE;
        idt[vector * 2] = (entry & 0xffff) | (uint64_t)HL_SELECTOR_USER_CODE << 16 |
                          UINT64_C(1) << 32 | UINT64_C(0xee) << 40 | (entry >> 16 & 0xffff) << 48;
    }
}

/* I/O permission bitmap: ring 3 may use the ABI's ports and no other. A 32-bit access needs the bits
 * of four ports, Intel SDM vol. 1, 19.5.2. */
static void build_tss(hl_vm *vm) {
    uint8_t *tss = vm->system + HL_SYSTEM_TSS;
    const uint64_t stack = HL_EXCEPTION_STACK_TOP;
    const uint16_t bitmap = 0x68;
    memcpy(tss + 0x04, &stack, sizeof stack);
    memcpy(tss + 0x24, &stack, sizeof stack);
    memcpy(tss + 0x66, &bitmap, sizeof bitmap);
    memset(tss + bitmap, 0xff, HL_TSS_SIZE - bitmap);
    for (unsigned port = HL_PORT_FIRST; port < HL_PORT_LAST + sizeof(uint32_t); port++)
        tss[bitmap + port / 8] &= (uint8_t)~(1u << port % 8);
}

void system_build(hl_vm *vm) {
    memcpy(vm->system + HL_SYSTEM_CODE, entry_code, (size_t)(entry_code_end - entry_code));
    build_gdt(vm);
    build_idt(vm);
    build_tss(vm);
    build_page_tables(vm);
}

int boot_info_init(hl_vm *vm) {
    struct hl_boot_info *info = boot_info(vm);
    info->abi_version = HL_ABI_VERSION;
    info->flags = vm->config.flags;
    info->ram_size = vm->config.memory;
    info->image_address = vm->image ? HL_IMAGE_ADDRESS : 0;
    info->image_size = vm->image_size;
    info->in_address = hl_vm_in_address(vm);
    info->in_size = vm->config.in_size;
    info->out_address = hl_vm_out_address(vm);
    info->out_size = vm->config.out_size;
    info->console_address = hl_vm_console_address(vm);
    info->console_size = vm->config.console_size;
    info->clock.multiplier = vm->tsc_multiplier;
    return boot_info_new_epoch(vm);
}

int boot_info_new_epoch(hl_vm *vm) {
    struct hl_boot_info *info = boot_info(vm);
    /* Random, so that no two VMs over one snapshot ever see the same. */
    if (getrandom(&info->epoch, sizeof info->epoch, 0) != (ssize_t)sizeof info->epoch ||
        getrandom(info->seed, sizeof info->seed, 0) != (ssize_t)sizeof info->seed)
        return hl_fail(-EIO, "getrandom gives no seed");
    return 0;
}

void boot_info_set_clock(hl_vm *vm) {
    struct hl_clock *clock = &boot_info(vm)->clock;
    struct timespec real, monotonic;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock->tsc = __rdtsc();
    clock_gettime(CLOCK_REALTIME, &real);
    clock->monotonic_ns = monotonic.tv_sec * INT64_C(1000000000) + monotonic.tv_nsec;
    clock->realtime_ns = real.tv_sec * INT64_C(1000000000) + real.tv_nsec;
}
