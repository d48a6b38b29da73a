/* elf.c: checks an ELF file and maps its segments. */
#include <linux/fcntl.h>
#include <linux/mman.h>
#include "program.h"

#define PAGE_MASK (HL_PAGE_SIZE - 1UL)

static long read_exactly(struct file *file, void *to, size_t size, uint64_t offset) {
    long count = file_read_at(file, to, size, offset);
    return count < 0 ? count : (size_t)count == size ? 0 : -ENOEXEC;
}

static bool header_ok(const Elf64_Ehdr *header) {
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
           header->e_machine == EM_X86_64 &&
           (header->e_type == ET_EXEC || header->e_type == ET_DYN) &&
           header->e_phentsize == sizeof(Elf64_Phdr) && header->e_phnum > 0 &&
           header->e_phnum <= SEGMENT_LIMIT;
}

static bool segment_ok(const Elf64_Phdr *segment) {
    uint64_t end;
    return segment->p_memsz >= segment->p_filesz &&
           !__builtin_add_overflow(segment->p_vaddr, segment->p_memsz, &end) &&
           end <= HL_RAM_MAXIMUM && ((segment->p_vaddr ^ segment->p_offset) & PAGE_MASK) == 0;
}

static long check(struct elf *elf) {
    long error = read_exactly(elf->file, &elf->header, sizeof elf->header, 0);
    if (error || !header_ok(&elf->header))
        return error == 0 || error == -EISDIR ? -ENOEXEC : error;
    error = read_exactly(elf->file, elf->segments, elf->header.e_phnum * sizeof *elf->segments,
                         elf->header.e_phoff);
    for (int i = 0; !error && i < elf->header.e_phnum; i++)
        if (elf->segments[i].p_type == PT_LOAD && !segment_ok(&elf->segments[i]))
            error = -ENOEXEC;
    return error;
}

long elf_open(const char *path, struct elf *elf) {
    long error = file_open(path, O_RDONLY, &elf->file);
    if (error) {
        elf->file = NULL;
        return error;
    }
    error = check(elf);
    if (error)
        elf_close(elf);
    return error;
}

void elf_close(struct elf *elf) {
    if (elf->file)
        file_close(elf->file);
    elf->file = NULL;
}

long elf_interpreter(const struct elf *elf, char path[PATH_LIMIT]) {
    path[0] = '\0';
    for (int i = 0; i < elf->header.e_phnum; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type != PT_INTERP)
            continue;
        if (segment->p_filesz < 2 || segment->p_filesz > PATH_LIMIT)
            return -ENOEXEC;
        long error = read_exactly(elf->file, path, segment->p_filesz, segment->p_offset);
        return error ? error : path[segment->p_filesz - 1] ? -ENOEXEC : 0;
    }
    return 0;
}

/* ---- mapping --------------------------------------------------------------------------------- */
static int protection_of(const Elf64_Phdr *segment) {
    return (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
           (segment->p_flags & PF_X ? PROT_EXEC : 0);
}

static long map_segment(const struct elf *elf, const Elf64_Phdr *segment) {
    uint64_t start = (elf->bias + segment->p_vaddr) & ~PAGE_MASK;
    uint64_t file_end = elf->bias + segment->p_vaddr + segment->p_filesz;
    uint64_t end = (elf->bias + segment->p_vaddr + segment->p_memsz + PAGE_MASK) & ~PAGE_MASK;
    uint64_t file_pages_end = (file_end + PAGE_MASK) & ~PAGE_MASK;
    int flags = MAP_PRIVATE | MAP_FIXED, protection = protection_of(segment);
    int64_t place = 0;
    if (segment->p_filesz) {
        place = memory_map(start, file_pages_end - start, protection, flags, file_hold(elf->file),
                           segment->p_offset & ~PAGE_MASK);
        if (place >= 0 && segment->p_memsz > segment->p_filesz)
            memset((void *)file_end, 0, file_pages_end - file_end);
    } else {
        file_pages_end = start;
    }
    if (place >= 0 && end > file_pages_end)
        place = memory_map(file_pages_end, end - file_pages_end, protection, flags | MAP_ANONYMOUS,
                           NULL, 0);
    return place < 0 ? place : 0;
}

/* Takes the whole of the program's addresses at once, so that its parts keep their distances. */
static long reserve(struct elf *elf, uint64_t hint) {
    uint64_t low = UINT64_MAX, high = 0;
    for (int i = 0; i < elf->header.e_phnum; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uint64_t end = segment->p_vaddr + segment->p_memsz;
        low = segment->p_vaddr < low ? segment->p_vaddr : low;
        high = end > high ? end : high;
    }
    if (low >= high)
        return -ENOEXEC;
    low &= ~PAGE_MASK;
    high = (high + PAGE_MASK) & ~PAGE_MASK;
    bool fixed = elf->header.e_type == ET_EXEC;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (fixed ? MAP_FIXED_NOREPLACE : 0);
    int64_t place = memory_map(fixed ? low : hint, high - low, PROT_NONE, flags, NULL, 0);
    if (place < 0)
        return place;
    elf->bias = (uint64_t)place - low;
    elf->end = elf->bias + high;
    return 0;
}

long elf_map(struct elf *elf, uint64_t hint) {
    long error = reserve(elf, hint);
    const Elf64_Ehdr *header = &elf->header;
    for (int i = 0; !error && i < header->e_phnum; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type != PT_LOAD)
            continue;
        error = map_segment(elf, segment);
        if (segment->p_offset <= header->e_phoff &&
            header->e_phoff < segment->p_offset + segment->p_filesz)
            elf->headers = elf->bias + segment->p_vaddr + header->e_phoff - segment->p_offset;
    }
    elf->entry = elf->bias + header->e_entry;
    return error;
}
