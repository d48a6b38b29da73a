/* harness.h: test cases that register themselves, checks, and what the cases share. */
#ifndef HARNESS_H
#define HARNESS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hl_abi.h"
#include "hl_vmm.h"

struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
};
void test_add(struct test_case *test);

/* TEST(what_it_shows) { ... } */
#define TEST(what)                                                                                 \
    static void what(void);                                                                        \
    static struct test_case what##_case = {#what, what, NULL};                                     \
    __attribute__((constructor)) static void what##_add(void) { test_add(&what##_case); }          \
    static void what(void)

/* Ends the program if the condition does not hold. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, hl_error_text());  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A generator that gives the same numbers everywhere: splitmix64, public domain algorithm of
 * S. Vigna, "Further scramblings of Marsaglia's xorshift generators", appendix. */
uint64_t random_next(uint64_t *state);
static inline uint64_t random_below(uint64_t *state, uint64_t limit) {
    return random_next(state) % limit;
}

#define TEST_MEMORY 0x800000
struct hl_config test_config(void);
/* The guest of guests/basic.c as an ELF file; the caller frees it. */
uint8_t *test_program(size_t *size);
/* A VM in which that guest has started and waits. */
hl_vm *test_vm(void);
/* Calls a method of it, with the members of params as JSON text, and returns how it left. */
struct hl_exit test_call(hl_vm *vm, const char *method, const char *params,
                         const struct hl_limits *limits);
/* A snapshot in files, of which this has the content of one; the caller closes the other. */
struct test_files {
    int memory_fd;
    size_t size;
    uint8_t state[65536];
};
struct test_files test_save(const hl_snapshot *snapshot, const hl_snapshot *parent);
int test_load(const struct test_files *files, hl_snapshot *parent, hl_snapshot **snapshot);
extern const struct hl_limits no_limits;
int64_t test_now_ns(void);

#endif
