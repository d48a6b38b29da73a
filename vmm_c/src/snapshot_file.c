/* snapshot_file.c: making a snapshot over a file; the file is untrusted input. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>
#include "snapshot.h"

/* The pages of the file that are not holes. */
static int add_data(hl_snapshot *snapshot, int fd) {
    off_t size = (off_t)snapshot->config.memory, at = 0;
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && at < size) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        if (end < 0)
            return hl_fail(-errno, "reading the snapshot file: %s", strerror(errno));
        size_t first = (size_t)at / HL_PAGE_SIZE,
               last = ((size_t)end + HL_PAGE_SIZE - 1) / HL_PAGE_SIZE;
        if (last > snapshot->own.pages)
            last = snapshot->own.pages;
        page_set_add_range(&snapshot->own, first, last - first);
        at = end;
    }
    return at >= 0 || errno == ENXIO
               ? 0
               : hl_fail(-errno, "reading the snapshot file: %s", strerror(errno));
}

static int check_file(const struct hl_config *config, int fd) {
    struct stat file;
    if (fstat(fd, &file))
        return hl_fail(-errno, "the snapshot file: %s", strerror(errno));
    if (!S_ISREG(file.st_mode))
        return hl_fail(-EINVAL, "the snapshot's memory is not a regular file");
    if ((uint64_t)file.st_size != config->memory)
        return hl_fail(-EINVAL, "the snapshot file has %lld bytes and should have %llu",
                       (long long)file.st_size, (unsigned long long)config->memory);
    return 0;
}

int hl_snapshot_load(const struct hl_config *config, int memory_fd, const void *cpu,
                     size_t cpu_size, hl_snapshot **out) {
    int result = check_file(config, memory_fd);
    if (result)
        return result;
    if (cpu_size != sizeof(struct cpu_state))
        return hl_fail(-EINVAL, "a vCPU state of %zu bytes; it should have %zu", cpu_size,
                       sizeof(struct cpu_state));
    hl_snapshot *snapshot = snapshot_new(config, NULL);
    if (!snapshot)
        return -ENOMEM;
    memcpy(&snapshot->cpu, cpu, sizeof snapshot->cpu);
    int fd = fcntl(memory_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        result = hl_fail(-errno, "the snapshot file: %s", strerror(errno));
    if (!result)
        result = snapshot_set_memory(snapshot, fd);
    if (!result)
        result = add_data(snapshot, memory_fd);
    if (result)
        hl_snapshot_unref(snapshot);
    else
        *out = snapshot;
    return result;
}
