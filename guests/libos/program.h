/* program.h: from an ELF file to a program that is ready to run. */
#ifndef LIBOS_PROGRAM_H
#define LIBOS_PROGRAM_H
#include <linux/elf.h>
#include "process.h"

#define SEGMENT_LIMIT 64

/* An ELF file, opened and checked, and where it lies once it is mapped. */
struct elf {
    struct file *file;
    Elf64_Ehdr header;
    Elf64_Phdr segments[SEGMENT_LIMIT];
    uint64_t bias; /* what to add to the file's addresses */
    uint64_t entry, headers, end;
};
/* Opens and checks; -ENOEXEC if it is no program for this machine. */
long elf_open(const char *path, struct elf *elf);
void elf_close(struct elf *elf);
/* Copies the path of its interpreter; 0 with an empty text if it has none. */
long elf_interpreter(const struct elf *elf, char path[PATH_LIMIT]);
/* Maps it, a position-independent one at `hint` if that is free. */
long elf_map(struct elf *elf, uint64_t hint);

/* Arguments and environment: NUL-terminated strings, one behind the other, on the kernel heap. */
struct strings {
    char *bytes;
    size_t size, room;
    size_t argument_count, arguments_size, environment_count;
};
/* Adds one; false when memory is out. */
bool strings_add(struct strings *strings, const char *text, size_t size);
/* All of them again, with `count` strings in place of the first argument. */
bool strings_replace_first(struct strings *strings, const char *const *with, size_t count);
void strings_free(struct strings *strings);

/* Makes the stack with arguments, environment and auxiliary vector; the program's first RSP. */
int64_t stack_build(const struct strings *strings, const char *path, const struct elf *main,
                    const struct elf *interpreter);
#endif
