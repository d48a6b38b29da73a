/* test_elf.c: what is no guest is refused, however it lies. */
#include <elf.h>
#include <errno.h>
#include "harness.h"

static hl_vm *fresh_vm(void) {
    struct hl_config config = test_config();
    hl_vm *vm;
    CHECK(!hl_vm_create(&config, &vm));
    return vm;
}

/* Loads from a block of just that size, so that reading beyond it is seen. */
static int load(hl_vm **vm, const uint8_t *bytes, size_t size) {
    uint8_t *exact = malloc(size ? size : 1);
    CHECK(exact);
    memcpy(exact, bytes, size);
    int result = hl_vm_load(*vm, exact, size);
    free(exact);
    if (result == 0) {
        hl_vm_close(*vm);
        *vm = fresh_vm();
    }
    return result;
}

static bool is_refusal(int result) {
    return result == -ENOEXEC || result == -EPROTO || result == -ENOMEM;
}

/* Everything that is loaded lies before this. */
static size_t loaded_size(const uint8_t *program) {
    Elf64_Ehdr header;
    size_t needed = 0;
    memcpy(&header, program, sizeof header);
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, program + header.e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type == PT_LOAD && segment.p_offset + segment.p_filesz > needed)
            needed = segment.p_offset + segment.p_filesz;
    }
    return needed;
}

TEST(a_truncated_guest_is_refused_at_every_length) {
    size_t size;
    uint8_t *program = test_program(&size);
    size_t needed = loaded_size(program);
    hl_vm *vm = fresh_vm();
    for (size_t kept = 0; kept < needed; kept += kept < 1024 ? 1 : 97)
        CHECK(load(&vm, program, kept) == -ENOEXEC);
    CHECK(load(&vm, program, needed) == 0);
    hl_vm_close(vm);
    free(program);
}

TEST(random_lies_in_the_headers_are_refused_or_harmless) {
    size_t size;
    uint64_t state = 2;
    uint8_t *program = test_program(&size), *changed = malloc(size);
    hl_vm *vm = fresh_vm();
    const size_t headers = sizeof(Elf64_Ehdr) + 8 * sizeof(Elf64_Phdr);
    static const uint64_t nasty[] = {0,
                                     1,
                                     0x7fffffff,
                                     0xffffffff,
                                     INT64_MAX,
                                     UINT64_MAX,
                                     UINT64_MAX - 0xfff,
                                     HL_RAM_ADDRESS,
                                     HL_GUEST_ADDRESS - 1,
                                     HL_RAM_ADDRESS + TEST_MEMORY};
    for (int round = 0; round < 5000; round++) {
        memcpy(changed, program, size);
        for (uint64_t lies = 1 + random_below(&state, 3); lies; lies--) {
            size_t width = (size_t)1 << random_below(&state, 4),
                   at = random_below(&state, headers / width) * width;
            uint64_t value = random_next(&state) & 1
                                 ? random_next(&state)
                                 : nasty[random_below(&state, sizeof nasty / sizeof *nasty)];
            memcpy(changed + at, &value, width);
        }
        int result = load(&vm, changed, size);
        CHECK(result == 0 || is_refusal(result));
    }
    hl_vm_close(vm);
    free(changed);
    free(program);
}

TEST(random_notes_are_read_within_their_segment) {
    size_t size;
    uint64_t state = 3;
    uint8_t *program = test_program(&size), *changed = malloc(size);
    hl_vm *vm = fresh_vm();
    Elf64_Ehdr header;
    memcpy(&header, program, sizeof header);
    for (int round = 0; round < 2000; round++) {
        memcpy(changed, program, size);
        for (unsigned i = 0; i < header.e_phnum; i++) {
            Elf64_Phdr segment;
            memcpy(&segment, program + header.e_phoff + i * sizeof segment, sizeof segment);
            if (segment.p_type != PT_NOTE)
                continue;
            for (size_t at = 0; at < segment.p_filesz; at += 4)
                if (random_below(&state, 3) == 0) {
                    uint32_t value = (uint32_t)random_next(&state) >> random_below(&state, 32);
                    memcpy(changed + segment.p_offset + at, &value, 4);
                }
        }
        int result = load(&vm, changed, size);
        CHECK(result == 0 || is_refusal(result));
    }
    hl_vm_close(vm);
    free(changed);
    free(program);
}

TEST(a_second_guest_is_not_loaded_over_the_first) {
    size_t size;
    uint8_t *program = test_program(&size);
    hl_vm *vm = test_vm();
    CHECK(hl_vm_load(vm, program, size) == -EBUSY);
    hl_vm_close(vm);
    free(program);
}
