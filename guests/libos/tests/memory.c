/* memory.c: mapping, moving and emptying memory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096UL
#define MIB 0x100000UL
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define READ_WRITE (PROT_READ | PROT_WRITE)

static int is_zero(const char *memory, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (memory[i])
            return 0;
    return 1;
}

static char *take(size_t size) {
    char *memory = mmap(NULL, size, READ_WRITE, ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED && (uintptr_t)memory % PAGE == 0);
    return memory;
}

static void fresh_memory_is_zero_however_often_it_was_used(void) {
    for (int i = 0; i < 20; i++) {
        char *memory = take(MIB + (size_t)i * PAGE);
        CHECK(is_zero(memory, MIB));
        memset(memory, 0xaa, MIB);
        CHECK(munmap(memory, MIB + (size_t)i * PAGE) == 0);
    }
}

static void parts_can_be_given_back(void) {
    char *memory = take(8 * PAGE);
    memset(memory, 1, 8 * PAGE);
    CHECK(munmap(memory + 2 * PAGE, 2 * PAGE) == 0);
    CHECK(memory[PAGE] == 1 && memory[4 * PAGE] == 1);
    char *again =
        mmap(memory + 2 * PAGE, 2 * PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == memory + 2 * PAGE && is_zero(again, 2 * PAGE));
    FAILS(mmap(memory, PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK(mmap(memory + PAGE, PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0) == memory + PAGE);
    CHECK(memory[0] == 1 && is_zero(memory + PAGE, PAGE));
    CHECK(munmap(memory, 8 * PAGE) == 0 && munmap(memory, 8 * PAGE) == 0);
}

static void nonsense_is_refused(void) {
    FAILS(mmap(NULL, 0, READ_WRITE, ANONYMOUS, -1, 0), EINVAL);
    FAILS(mmap(NULL, PAGE, READ_WRITE, MAP_ANONYMOUS, -1, 0), EINVAL);
    FAILS(mmap((void *)1, PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 0, 1), EINVAL);
    FAILS(mmap(NULL, 1UL << 46, READ_WRITE, ANONYMOUS, -1, 0), ENOMEM);
    FAILS(mmap(NULL, ~0UL, READ_WRITE, ANONYMOUS, -1, 0), ENOMEM);
    FAILS(munmap((void *)1, PAGE), EINVAL);
    FAILS(munmap(take(PAGE), 0), EINVAL);
    FAILS(mremap(take(PAGE), PAGE, 0, MREMAP_MAYMOVE), EINVAL);
}

static void remapping_keeps_the_contents(void) {
    char *memory = take(4 * PAGE), *wall, *moved;
    for (int i = 0; i < 4; i++)
        memory[(size_t)i * PAGE] = (char)(i + 1);
    CHECK(mremap(memory, 4 * PAGE, 2 * PAGE, 0) == memory);
    CHECK(mremap(memory, 2 * PAGE, 4 * PAGE, 0) == memory && memory[PAGE] == 2);
    CHECK(is_zero(memory + 2 * PAGE, 2 * PAGE));
    wall = mmap(memory + 4 * PAGE, PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(wall == memory + 4 * PAGE);
    FAILS(mremap(memory, 4 * PAGE, MIB, 0), ENOMEM);
    moved = mremap(memory, 4 * PAGE, MIB, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && moved[0] == 1 && moved[PAGE] == 2);
    CHECK(is_zero(moved + 2 * PAGE, MIB - 2 * PAGE));
    char *place = take(MIB);
    CHECK(mremap(moved, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place &&
          place[PAGE] == 2);
    CHECK(munmap(place, MIB) == 0 && munmap(wall, PAGE) == 0);
}

static void a_reservation_becomes_usable_and_keeps_its_contents(void) {
    char *dirty = take(MIB);
    memset(dirty, 0x55, MIB);
    CHECK(munmap(dirty, MIB) == 0);
    char *memory = mmap(NULL, MIB, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(mprotect(memory, 4 * PAGE, READ_WRITE) == 0 && is_zero(memory, 4 * PAGE));
    memset(memory, 7, 4 * PAGE);
    CHECK(mprotect(memory, PAGE, PROT_NONE) == 0 && mprotect(memory, MIB, READ_WRITE) == 0);
    CHECK(memory[0] == 7 && memory[4 * PAGE - 1] == 7 &&
          is_zero(memory + 4 * PAGE, MIB - 4 * PAGE));
    CHECK(madvise(memory + PAGE, PAGE, MADV_DONTNEED) == 0);
    CHECK(memory[0] == 7 && is_zero(memory + PAGE, PAGE) && memory[2 * PAGE] == 7);
    FAILS(madvise(memory + 1, PAGE, MADV_DONTNEED), EINVAL);
    CHECK(munmap(memory, MIB) == 0);
}

static void the_break_moves(void) {
    char *start = sbrk(0);
    CHECK(sbrk(MIB) == start && is_zero(start, MIB));
    memset(start, 3, MIB);
    CHECK(sbrk(-(long)MIB) == start + MIB && sbrk(0) == start);
    CHECK(sbrk(MIB) == start && is_zero(start, MIB));
    CHECK(brk(start) == 0);
}

static void files_are_mapped_by_content(const char *path) {
    char read_first[64];
    int file = open(path, O_RDONLY);
    CHECK(file >= 0 && pread(file, read_first, sizeof read_first, PAGE) == sizeof read_first);
    off_t size = lseek(file, 0, SEEK_END);
    char *whole = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file, 0);
    char *part = mmap(NULL, PAGE, READ_WRITE, MAP_PRIVATE, file, PAGE);
    CHECK(whole != MAP_FAILED && part != MAP_FAILED);
    CHECK(memcmp(whole, "\177ELF", 4) == 0 && memcmp(whole + PAGE, read_first, 64) == 0);
    CHECK(memcmp(part, read_first, 64) == 0);
    part[0] ^= 0xff;
    CHECK(part[0] != whole[PAGE] && whole[PAGE] == read_first[0]);
    char *tail =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, size & ~(off_t)(PAGE - 1));
    CHECK(is_zero(tail + size % (off_t)PAGE, PAGE - (size_t)size % PAGE));
    CHECK(close(file) == 0 && munmap(whole, (size_t)size) == 0 && munmap(part, PAGE) == 0);
    CHECK(is_zero(take(PAGE), PAGE));
}

static void the_map_can_be_read(void) {
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2 && start < end);
        found += start <= (unsigned long)&found && (unsigned long)&found < end;
        found += start <= (unsigned long)done && (unsigned long)done < end;
    }
    CHECK(found == 2);
    fclose(maps);
}

int main(int count, char **arguments) {
    CHECK(count == 1);
    fresh_memory_is_zero_however_often_it_was_used();
    parts_can_be_given_back();
    nonsense_is_refused();
    remapping_keeps_the_contents();
    a_reservation_becomes_usable_and_keeps_its_contents();
    the_break_moves();
    files_are_mapped_by_content(arguments[0]);
    the_map_can_be_read();
    unsigned char resident[4];
    char *memory = take(4 * PAGE);
    memset(memory, 1, 4 * PAGE);
    CHECK(mincore(memory, 4 * PAGE, resident) == 0 && resident[0] & 1 && resident[3] & 1);
    CHECK(msync(memory, PAGE, MS_SYNC) == 0 && mlock(memory, PAGE) == 0);
    CHECK(munmap(memory, 4 * PAGE) == 0);
    FAILS(msync(memory, PAGE, MS_SYNC), ENOMEM);
    return done();
}
