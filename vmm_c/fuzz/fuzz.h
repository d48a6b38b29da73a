/* fuzz.h: what the fuzzers share: a VM with the tests' guest in it. */
#ifndef FUZZ_H
#define FUZZ_H
#include <stdlib.h>
#include <string.h>
#include "harness.h"
#include "internal.h"

/* The place in the guest's memory where nothing of it lies. */
#define FUZZ_PLACE 0x400000

/* A guest that has started and waits, and its state then; the same ones each time. */
hl_vm *fuzz_vm(void);
hl_snapshot *fuzz_start(void);
/* Goes back to that state, in which the guest must do as it always does. */
void fuzz_check_start(void);
/* Runs what is in the VM for at most 2 ms and 50 exits, and checks what the caller is told of each. */
void fuzz_run(void);

#endif
