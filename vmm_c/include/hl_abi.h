/* hl_abi.h: the one contract between the host and a guest: memory map, ports, control block, frames.
 *
 * Included by the host (vmm_c), by native guests (guests/sdk) and by the library OS (guests/libos).
 * Any change of meaning or layout raises HL_ABI_VERSION; the host refuses a guest built for another
 * version (ELF note below) and a guest may compare hl_boot_info.abi_version with its own.
 *
 * Everything a guest runs, it runs in ring 3. Virtual addresses equal guest-physical addresses.
 *
 *   0x0000_0000  system pages, owned by the host, read-only to the guest, not part of snapshots
 *   0x0020_0000  RAM: control block, exception stack, then the guest's own
 *   ...          the host's buffers lie at the top of RAM; hl_boot_info says where
 *   0x8_0000_0000  image, read-only
 */
#ifndef HL_ABI_H
#define HL_ABI_H

#define HL_ABI_VERSION 2

/* ---- memory map ------------------------------------------------------------------------------ */
#define HL_PAGE_SIZE 0x1000
#define HL_BOOT_INFO_ADDRESS 0x1000
#define HL_RAM_ADDRESS 0x200000
#define HL_CONTROL_ADDRESS HL_RAM_ADDRESS
/* Interrupt stack 1 of the TSS: exceptions arrive here. It is not re-entrant: copy the frame, leave. */
#define HL_EXCEPTION_STACK_TOP 0x204000
/* The first address a guest's segments may use. */
#define HL_GUEST_ADDRESS 0x210000
#define HL_IMAGE_ADDRESS 0x800000000
#define HL_RAM_MAXIMUM 0x400000000
#define HL_IMAGE_MAXIMUM 0x400000000

/* ---- ports: `out %eax, $port` leaves the VM -------------------------------------------------- */
/* A request frame is in the out buffer; on return the response frame is in the in buffer, or first a
 * request of the host's own, which is answered by a response frame over the same port. */
#define HL_PORT_CALL 0x10
/* EAX is HL_PARK_IDLE or HL_PARK_BLOCKED. */
#define HL_PORT_PARK 0x11
/* The console buffer is full or must be shown now. */
#define HL_PORT_CONSOLE 0x12
/* The guest has ended; EAX is its exit status, as a shell would see it (128 + signal when killed). */
#define HL_PORT_EXIT 0x13
/* Used by the host's own exception entry when the guest has set no handler. */
#define HL_PORT_FAULT 0x14
/* Asks for the address of the last page fault, in hl_control.fault_address. */
#define HL_PORT_FAULT_ADDRESS 0x15
/* Gives whole pages back to the host, those of hl_control.release_address and release_size, which lie
 * between HL_GUEST_ADDRESS and the host's buffers; they read as zero from then on. */
#define HL_PORT_RELEASE 0x16
#define HL_RELEASE_MAXIMUM 0x40000000
#define HL_PORT_FIRST HL_PORT_CALL
#define HL_PORT_LAST HL_PORT_RELEASE

/* Waits for the next request. A reply to the last one may be in the out buffer. */
#define HL_PARK_IDLE 0
/* Every thread of the guest waits; hl_control.park_deadline_ns says until when. */
#define HL_PARK_BLOCKED 1

/* ---- selectors a guest may need when it builds a frame for iretq ------------------------------ */
#define HL_SELECTOR_USER_CODE 0x33
#define HL_SELECTOR_USER_DATA 0x2b
/* RFLAGS a guest runs with: IOPL 3, IF, and the bit that is always one. */
#define HL_RFLAGS 0x3202

/* ---- control block, at HL_CONTROL_ADDRESS, written by the guest, read once by the host -------- */
#define HL_CONTROL_SYSCALL_ENTRY 0x00
#define HL_CONTROL_SYSCALL_RIP 0x08
#define HL_CONTROL_SYSCALL_RFLAGS 0x10
#define HL_CONTROL_EXCEPTION_ENTRY 0x18

#ifndef __ASSEMBLER__
#include <stdint.h>

struct hl_control {
    /* Where `syscall` goes. RSP and all registers but RCX and R11 are the program's own; its return
     * address and flags are in the next two fields. Zero: a syscall is a guest fault. */
    uint64_t syscall_entry;
    uint64_t syscall_rip;
    uint64_t syscall_rflags;
    /* Where exceptions go, on the exception stack, with the vector pushed on top of a frame that
     * always has an error code: vector, error code, RIP, CS, RFLAGS, RSP, SS. Zero: an exception is
     * a guest fault. */
    uint64_t exception_entry;
    /* CR2, which ring 3 cannot read: the host puts it here on HL_PORT_FAULT_ADDRESS. */
    uint64_t fault_address;
    /* HL_PARK_BLOCKED: CLOCK_MONOTONIC time to wake at, in ns; INT64_MAX for never. */
    int64_t park_deadline_ns;
    /* Bytes of records in the console buffer; the host sets it to 0 after it has taken them. */
    uint32_t console_used;
    uint32_t reserved;
    /* HL_PORT_RELEASE: multiples of HL_PAGE_SIZE; at most HL_RELEASE_MAXIMUM bytes at once. */
    uint64_t release_address;
    uint64_t release_size;
};

/* ---- boot information, at HL_BOOT_INFO_ADDRESS, written by the host --------------------------- */
/* Time: ns = base_ns + ((rdtsc - tsc) * multiplier >> 32). Valid within one stay in the guest of any
 * length; the host refreshes it whenever it resumes a parked guest. */
struct hl_clock {
    uint64_t tsc;
    uint64_t multiplier;
    int64_t realtime_ns;
    int64_t monotonic_ns;
};

/* Console output shall leave the VM at once instead of with the next exit. */
#define HL_BOOT_STREAM_CONSOLE 1

struct hl_boot_info {
    uint32_t abi_version;
    uint32_t flags;
    uint64_t ram_size;
    uint64_t image_address;
    uint64_t image_size;
    uint64_t in_address;
    uint64_t in_size;
    uint64_t out_address;
    uint64_t out_size;
    uint64_t console_address;
    uint64_t console_size;
    /* Differs after every restore, reset and clone: reseed from `seed`, which is fresh then too. */
    uint64_t epoch;
    /* Differs when the host functions within reach have changed. */
    uint64_t table_version;
    uint8_t seed[32];
    struct hl_clock clock;
};

/* ---- frames, at the start of the in and the out buffer ---------------------------------------- */
/* A JSON-RPC 2.0 object and an optional binary attachment. The attachment lies anywhere behind the
 * JSON and inside the buffer; the host puts large ones at HL_FRAME_BULK_OFFSET. */
struct hl_frame {
    uint32_t abi_version;
    uint32_t json_size;
    uint32_t attachment_offset;
    uint32_t attachment_size;
};
#define HL_FRAME_BULK_OFFSET 0x1000

/* ---- console buffer: records, one behind the other -------------------------------------------- */
#define HL_CONSOLE_STDOUT 1
#define HL_CONSOLE_STDERR 2
struct hl_console_record {
    uint32_t stream;
    uint32_t size; /* bytes of text behind this header, no padding */
};

/* ---- ELF note that a guest carries: owner "hyperlight", type HL_NOTE_ABI, a 32-bit version ----- */
#define HL_NOTE_OWNER "hyperlight"
#define HL_NOTE_ABI 1

#endif
#endif
