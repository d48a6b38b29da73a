/* descriptors.c: the table of descriptors, what fcntl and ioctl say, /dev and /proc/self/fd. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "check.h"

static int open_zero(void) {
    int file = open("/dev/zero", O_RDWR);
    CHECK(file >= 0);
    return file;
}

static void the_lowest_number_is_taken(void) {
    int a = open_zero(), b = open_zero(), c = open_zero();
    CHECK(b == a + 1 && c == b + 1);
    close(b), close(a);
    CHECK(open_zero() == a && dup(c) == b);
    CHECK(fcntl(c, F_DUPFD, c + 5) == c + 5 && fcntl(c, F_DUPFD_CLOEXEC, c + 5) == c + 6);
    CHECK(fcntl(c + 6, F_GETFD) == FD_CLOEXEC && fcntl(c + 5, F_GETFD) == 0);
    CHECK(close_range(a, c + 6, 0) == 0);
    FAILS(fcntl(c, F_GETFD), EBADF);
    FAILS(dup(c), EBADF);
}

static void duplicates_share_the_file(void) {
    char name[] = "/tmp/duplicateXXXXXX";
    int file = mkstemp(name), copy = dup(file), other = open(name, O_RDWR);
    CHECK(write(file, "abc", 3) == 3);
    CHECK(lseek(copy, 0, SEEK_CUR) == 3 && lseek(other, 0, SEEK_CUR) == 0);
    CHECK(fcntl(copy, F_SETFL, O_APPEND) == 0 && (fcntl(file, F_GETFL) & O_APPEND));
    CHECK((fcntl(file, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(fcntl(copy, F_SETFD, FD_CLOEXEC) == 0 && fcntl(file, F_GETFD) == 0);
    close(file), close(copy), close(other), unlink(name);
}

static void dup2_replaces(void) {
    int a = open_zero(), b = open("/dev/null", O_RDWR);
    char byte;
    CHECK(dup2(a, b) == b && read(b, &byte, 1) == 1);
    CHECK(dup2(a, a) == a);
    FAILS(dup3(a, a, 0), EINVAL);
    CHECK(dup3(a, b, O_CLOEXEC) == b && fcntl(b, F_GETFD) == FD_CLOEXEC);
    FAILS(dup2(999, a), EBADF);
    FAILS(dup2(a, 1 << 20), EBADF);
    close(a), close(b);
}

static void there_is_a_limit(void) {
    int file = 0, last = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024}) == 0);
    while ((file = open("/dev/null", O_RDONLY)) >= 0)
        last = file;
    CHECK(errno == EMFILE && last == 1023);
    FAILS(dup(0), EMFILE);
    CHECK(close_range(3, ~0U, 0) == 0);
    CHECK((file = open_zero()) == 3);
    close(file);
}

static void controls_answer(void) {
    int file = open_zero(), yes = 1, no = 0, left;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct termios settings;
    CHECK(ioctl(file, FIOCLEX) == 0 && fcntl(file, F_GETFD) == FD_CLOEXEC);
    CHECK(ioctl(file, FIONCLEX) == 0 && fcntl(file, F_GETFD) == 0);
    CHECK(ioctl(file, FIONBIO, &yes) == 0 && (fcntl(file, F_GETFL) & O_NONBLOCK));
    CHECK(ioctl(file, FIONBIO, &no) == 0 && !(fcntl(file, F_GETFL) & O_NONBLOCK));
    FAILS(ioctl(file, TCGETS, &settings), ENOTTY);
    FAILS(fcntl(file, 9999), EINVAL);
    CHECK(!isatty(file));
    close(file);
    char name[] = "/tmp/controlXXXXXX";
    file = mkstemp(name);
    CHECK(write(file, "abc", 3) == 3 && lseek(file, 1, SEEK_SET) == 1);
    CHECK(ioctl(file, FIONREAD, &left) == 0 && left == 2);
    CHECK(fcntl(file, F_SETLK, &lock) == 0);
    CHECK(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK);
    CHECK(fsync(file) == 0 && fdatasync(file) == 0);
    CHECK(posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    close(file), unlink(name);
    int ends[2];
    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_GETPIPE_SZ) == 65536);
    FAILS(fsync(ends[0]), EINVAL);
    close(ends[0]), close(ends[1]);
}

static void devices_have_no_bottom(void) {
    char bytes[64] = "x", other[64];
    struct stat status;
    int null = open("/dev/null", O_RDWR), zero = open_zero(), full = open("/dev/full", O_RDWR);
    CHECK(read(null, bytes, 64) == 0 && write(null, bytes, 64) == 64);
    CHECK(read(zero, bytes, 64) == 64 && bytes[0] == 0);
    FAILS(write(full, bytes, 1), ENOSPC);
    CHECK(fstat(null, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == 0x103);
    close(open("/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0644));
    int random = open("/dev/urandom", O_RDONLY);
    CHECK(read(random, bytes, 64) == 64 && read(random, other, 64) == 64);
    CHECK(memcmp(bytes, other, 64) != 0);
    FAILS(open("/dev/tty-that-is-not", O_RDWR), ENOENT);
    CHECK(close_range(3, ~0U, 0) == 0);
}

static void proc_shows_the_open_files(void) {
    char name[] = "/tmp/shownXXXXXX", link[64], target[PATH_MAX] = "", back[4];
    int file = mkstemp(name), found = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    CHECK(readlink(link, target, sizeof target) > 0 && strcmp(target, name) == 0);
    CHECK(write(file, "abc", 3) == 3);
    int again = open(link, O_RDONLY); /* a file of its own, at the beginning */
    CHECK(read(again, back, 4) == 3);
    close(again);
    snprintf(link, sizeof link, "/dev/fd/%d", file);
    CHECK((again = open(link, O_RDONLY)) >= 0);
    close(again);
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));)
        found += entry->d_name[0] != '.' && atoi(entry->d_name) == file;
    CHECK(found == 1 && closedir(directory) == 0);
    close(file), unlink(name);
    FAILS(readlink(link, target, 1), ENOENT);
    FAILS(open("/proc/self/fd/one", O_RDONLY), ENOENT);
}

static void proc_tells_about_the_program(void) {
    char text[4096], path[PATH_MAX] = "";
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t size = fread(text, 1, sizeof text, file);
    CHECK(size > 1 && text[size - 1] == '\0' && strstr(text, "descriptors"));
    fclose(file);
    CHECK(readlink("/proc/self/exe", path, sizeof path) > 0 && strstr(path, "descriptors"));
    file = fopen("/proc/self/maps", "r");
    int found = 0;
    while (fgets(text, sizeof text, file))
        found += strstr(text, path) != NULL;
    CHECK(found > 0);
    fclose(file);
    file = fopen("/proc/self/stat", "r");
    int process = 0, parent = 0;
    CHECK(fscanf(file, "%d (%*[^)]) %*c %d", &process, &parent) == 2);
    CHECK(process == getpid() && parent == getppid());
    fclose(file);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_NPROCESSORS_CONF) >= 1);
    CHECK(sysconf(_SC_PHYS_PAGES) > 0 && access("/proc/meminfo", R_OK) == 0);
}

int main(void) {
    CHECK(close_range(3, ~0U, 0) == 0); /* whatever the parent left open */
    the_lowest_number_is_taken();
    duplicates_share_the_file();
    dup2_replaces();
    there_is_a_limit();
    controls_answer();
    devices_have_no_bottom();
    proc_shows_the_open_files();
    proc_tells_about_the_program();
    return done();
}
