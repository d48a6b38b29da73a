/* stack.c: what a program finds on its stack: arguments, environment, auxiliary vector, see
 * getauxval(3) and the System V ABI for x86-64, 3.4.1. */
#include <linux/auxvec.h>
#include <linux/mman.h>
#include "ports.h"
#include "program.h"

#define CLOCK_TICKS 100
#define RANDOM_SIZE 16
#define HWCAP2_FSGSBASE 2 /* asm/hwcap2.h */
#define CPUID_FEATURES 1
#define AUXILIARY_ROOM 24

extern const uint8_t vdso_begin[], vdso_end[];
struct program program;

struct auxiliary {
    uint64_t type, value;
};

/* Like everything the program may call, the vDSO lies in memory of the program's. */
static uint64_t map_vdso(void) {
    size_t size = (size_t)(vdso_end - vdso_begin);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int64_t place = memory_map(0, size, PROT_READ | PROT_EXEC, flags, NULL, 0);
    if (place < 0)
        return 0;
    memcpy((void *)place, vdso_begin, size);
    return (uint64_t)place;
}

static uint32_t hardware_capabilities(void) {
    static uint32_t leaf[4]; /* asked once: cpuid is slow in a VM */
    if (!leaf[3])
        cpuid(CPUID_FEATURES, 0, leaf);
    return leaf[3];
}

static size_t fill_auxiliary(struct auxiliary *to, const struct elf *main,
                             const struct elf *interpreter) {
    size_t count = 0;
    const struct auxiliary all[] = {
        {AT_SYSINFO_EHDR, map_vdso()},
        {AT_HWCAP, hardware_capabilities()},
        {AT_PAGESZ, HL_PAGE_SIZE},
        {AT_CLKTCK, CLOCK_TICKS},
        {AT_PHDR, main->headers},
        {AT_PHENT, sizeof(Elf64_Phdr)},
        {AT_PHNUM, main->header.e_phnum},
        {AT_BASE, interpreter ? interpreter->bias : 0},
        {AT_FLAGS, 0},
        {AT_ENTRY, main->entry},
        {AT_UID, 0},
        {AT_EUID, 0},
        {AT_GID, 0},
        {AT_EGID, 0},
        {AT_SECURE, 0},
        {AT_HWCAP2, HWCAP2_FSGSBASE},
        {AT_MINSIGSTKSZ, signal_frame_size()},
    };
    for (; count < sizeof all / sizeof *all; count++)
        to[count] = all[count];
    return count;
}

/* The address behind its end. */
static int64_t map_stack(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
    int64_t bottom = memory_map(0, stack_limit(), PROT_READ | PROT_WRITE, flags, NULL, 0);
    return bottom < 0 ? bottom : bottom + (int64_t)stack_limit();
}

static uint64_t push(uint64_t top, const void *bytes, size_t size) {
    memcpy((void *)(top - size), bytes, size);
    return top - size;
}

/* Writes `count` pointers to the strings at *text and a NULL. */
static uint64_t *put_pointers(uint64_t *to, const char **text, size_t count) {
    for (size_t i = 0; i < count; i++) {
        *to++ = (uint64_t)*text;
        *text += strlen(*text) + 1;
    }
    *to++ = 0;
    return to;
}

static void note_program(const struct strings *strings, const char *path, const char *bytes) {
    size_t length = strlen(path);
    memcpy(program.path, path, length + 1);
    program.arguments = bytes;
    program.arguments_size = strings->arguments_size;
    program.environment = bytes + strings->arguments_size;
    program.environment_size = strings->size - strings->arguments_size;
}

int64_t stack_build(const struct strings *strings, const char *path, const struct elf *main,
                    const struct elf *interpreter) {
    struct auxiliary auxiliary[AUXILIARY_ROOM];
    uint8_t random[RANDOM_SIZE];
    size_t count = fill_auxiliary(auxiliary, main, interpreter);
    size_t words = 1 + strings->argument_count + 1 + strings->environment_count + 1;
    int64_t mapped = map_stack();
    if (mapped < 0)
        return mapped;
    if (strings->size + words * sizeof(uint64_t) > stack_limit() / 2)
        return -E2BIG;
    uint64_t top = push((uint64_t)mapped, path, strlen(path) + 1);
    auxiliary[count++] = (struct auxiliary){AT_EXECFN, top};
    const char *text = (const char *)(top = push(top, strings->bytes, strings->size));
    note_program(strings, path, text);
    top = push(top, "x86_64", sizeof "x86_64");
    auxiliary[count++] = (struct auxiliary){AT_PLATFORM, top};
    random_bytes(random, sizeof random);
    top = push(top, random, sizeof random);
    auxiliary[count++] = (struct auxiliary){AT_RANDOM, top};
    auxiliary[count++] = (struct auxiliary){AT_NULL, 0};
    words += count * 2;
    uint64_t stack = (top - words * sizeof(uint64_t)) & -16UL;
    uint64_t *to = (uint64_t *)stack;
    *to++ = strings->argument_count;
    to = put_pointers(to, &text, strings->argument_count);
    to = put_pointers(to, &text, strings->environment_count);
    memcpy(to, auxiliary, count * sizeof *auxiliary);
    program.auxiliary = to;
    program.auxiliary_size = count * sizeof *auxiliary;
    return (int64_t)stack;
}
