/* elf.c: loading a static ELF program with the ABI note into a fresh VM. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include "internal.h"

struct program {
    const uint8_t *bytes;
    size_t size;
    Elf64_Ehdr header;
};

static bool inside(uint64_t offset, uint64_t length, uint64_t size) {
    return offset <= size && length <= size - offset;
}

static int check_header(const struct program *program) {
    const Elf64_Ehdr *header = &program->header;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG))
        return hl_fail(-ENOEXEC, "not an ELF file");
    if (header->e_ident[EI_CLASS] != ELFCLASS64)
        return hl_fail(-ENOEXEC, "a 32-bit ELF file; guests are 64-bit");
    if (header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
        return hl_fail(-ENOEXEC,
                       "an ELF file for another machine (e_machine %u); guests are x86-64",
                       header->e_machine);
    if (header->e_type != ET_EXEC)
        return hl_fail(
            -ENOEXEC,
            "not a static executable (e_type %u); link guests with -static and without -pie",
            header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr) ||
        !inside(header->e_phoff, (uint64_t)header->e_phnum * sizeof(Elf64_Phdr), program->size))
        return hl_fail(-ENOEXEC, "a truncated ELF file: its program headers lie outside of it");
    return 0;
}

static Elf64_Phdr segment_of(const struct program *program, unsigned index) {
    Elf64_Phdr segment;
    memcpy(&segment, program->bytes + program->header.e_phoff + index * sizeof segment,
           sizeof segment);
    return segment;
}

/* The version in the ABI note of this note segment, or 0. */
static uint32_t note_version(const struct program *program, const Elf64_Phdr *segment) {
    uint64_t at = segment->p_offset, end = at + segment->p_filesz;
    Elf64_Nhdr note;
    while (end - at >= sizeof note) {
        memcpy(&note, program->bytes + at, sizeof note);
        uint64_t name = at + sizeof note, text = name + ((note.n_namesz + 3ULL) & ~3ULL);
        uint64_t next = text + ((note.n_descsz + 3ULL) & ~3ULL);
        if (next > end)
            return 0;
        uint32_t version;
        if (note.n_type == HL_NOTE_ABI && note.n_namesz == sizeof HL_NOTE_OWNER &&
            note.n_descsz == sizeof version &&
            !memcmp(program->bytes + name, HL_NOTE_OWNER, sizeof HL_NOTE_OWNER)) {
            memcpy(&version, program->bytes + text, sizeof version);
            return version;
        }
        at = next;
    }
    return 0;
}

static int check_abi(const struct program *program) {
    uint32_t version = 0;
    for (unsigned i = 0; i < program->header.e_phnum && !version; i++) {
        Elf64_Phdr segment = segment_of(program, i);
        if (segment.p_type == PT_INTERP)
            return hl_fail(-ENOEXEC, "a dynamically linked program; it needs the library OS");
        if (segment.p_type == PT_NOTE && inside(segment.p_offset, segment.p_filesz, program->size))
            version = note_version(program, &segment);
    }
    if (!version)
        return hl_fail(-ENOEXEC, "not a hyperlight guest: the ELF file has no ABI note");
    if (version != HL_ABI_VERSION)
        return hl_fail(-EPROTO, "a guest for ABI version %u; this host has version %u", version,
                       HL_ABI_VERSION);
    return 0;
}

static int load_segment(hl_vm *vm, const struct program *program, const Elf64_Phdr *segment) {
    if (!inside(segment->p_offset, segment->p_filesz, program->size) ||
        segment->p_filesz > segment->p_memsz)
        return hl_fail(-ENOEXEC, "a truncated ELF file: a segment lies outside of it");
    uint64_t end = vm_guest_end(vm);
    if (segment->p_vaddr < HL_GUEST_ADDRESS || segment->p_vaddr > HL_RAM_ADDRESS + HL_RAM_MAXIMUM)
        return hl_fail(-ENOEXEC, "a segment at %#llx; guests begin at %#x",
                       (unsigned long long)segment->p_vaddr, HL_GUEST_ADDRESS);
    if (segment->p_vaddr > end || segment->p_memsz > end - segment->p_vaddr)
        return hl_fail(-ENOMEM, "the guest needs %llu bytes at %#llx; its memory ends at %#llx",
                       (unsigned long long)segment->p_memsz, (unsigned long long)segment->p_vaddr,
                       (unsigned long long)end);
    return hl_vm_write(vm, segment->p_vaddr, program->bytes + segment->p_offset, segment->p_filesz);
}

int hl_vm_load(hl_vm *vm, const void *elf, size_t size) {
    struct program program = {.bytes = elf, .size = size};
    if (vm->loaded)
        return hl_fail(-EBUSY, "something is already loaded into the VM");
    if (size < sizeof program.header)
        return hl_fail(-ENOEXEC, "%s",
                       size < SELFMAG || memcmp(elf, ELFMAG, SELFMAG)
                           ? "not an ELF file"
                           : "a truncated ELF file: it ends within its header");
    memcpy(&program.header, elf, sizeof program.header);
    int result = check_header(&program);
    if (!result)
        result = check_abi(&program);
    for (unsigned i = 0; !result && i < program.header.e_phnum; i++) {
        Elf64_Phdr segment = segment_of(&program, i);
        if (segment.p_type == PT_LOAD && segment.p_memsz)
            result = load_segment(vm, &program, &segment);
    }
    if (!result)
        result = vm_offer_ram(vm);
    if (result)
        return result;
    struct cpu_state state;
    cpu_state_start(&state, program.header.e_entry, vm_guest_end(vm));
    result = cpu_set(vm, &state);
    vm->loaded = !result;
    return result;
}
