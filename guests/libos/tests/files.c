/* files.c: regular files: opening, reading, writing, positions, sizes, holes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "check.h"

#define CHUNK 65536

static char large[3 * CHUNK];

static int fresh(const char *name) {
    unlink(name);
    int file = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);
    CHECK(file >= 0);
    return file;
}

static off_t size_of(int file) {
    struct stat status;
    CHECK(fstat(file, &status) == 0);
    return status.st_size;
}

static void open_flags_do_what_they_say(void) {
    close(fresh("flags"));
    FAILS(open("flags", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    FAILS(open("nothing", O_RDONLY), ENOENT);
    FAILS(open("flags", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open(".", O_WRONLY), EISDIR);
    FAILS(open("flags/", O_RDONLY), ENOTDIR);
    FAILS(open("new/", O_WRONLY | O_CREAT, 0644), EISDIR);
    FAILS(open("flags/below", O_RDONLY), ENOTDIR);
    CHECK(symlink("flags", "link") == 0);
    FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK(close(open("link", O_RDONLY)) == 0);
    int file = open("flags", O_RDONLY);
    FAILS(write(file, "x", 1), EBADF);
    CHECK(close(file) == 0);
    FAILS(close(file), EBADF);
    file = open("flags", O_WRONLY);
    FAILS(read(file, large, 1), EBADF);
    close(file);
}

static void the_umask_takes_bits_away(void) {
    struct stat status;
    mode_t old = umask(027);
    int file = open("masked", O_WRONLY | O_CREAT, 0666);
    CHECK(fstat(file, &status) == 0 && (status.st_mode & 07777) == 0640);
    CHECK(umask(old) == 027);
    close(file);
}

static void a_dangling_link_makes_its_target(void) {
    CHECK(symlink("target", "dangling") == 0);
    FAILS(open("dangling", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    close(open("dangling", O_WRONLY | O_CREAT, 0644));
    CHECK(access("target", F_OK) == 0);
}

static void what_is_written_is_read(void) {
    static char back[sizeof large];
    int file = fresh("data");
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7 + i / 251);
    CHECK(write(file, large, sizeof large) == sizeof large);
    CHECK(read(file, back, 1) == 0);
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    CHECK(read(file, back, sizeof back) == sizeof back);
    CHECK(memcmp(large, back, sizeof back) == 0);
    CHECK(pread(file, back, 100, CHUNK - 50) == 100);
    CHECK(memcmp(large + CHUNK - 50, back, 100) == 0);
    CHECK(pwrite(file, "seam", 4, CHUNK - 2) == 4);
    CHECK(pread(file, back, 4, CHUNK - 2) == 4 && memcmp(back, "seam", 4) == 0);
    CHECK(lseek(file, 0, SEEK_CUR) == sizeof large);
    CHECK(pread(file, back, 10, 1L << 40) == 0);
    FAILS(pread(file, back, 10, -1), EINVAL);
    FAILS(read(file, (void *)-1L, 10), EFAULT);
    close(file);
}

static void positions_move_as_asked(void) {
    int file = fresh("seek");
    CHECK(write(file, "0123456789", 10) == 10);
    CHECK(lseek(file, -3, SEEK_END) == 7);
    CHECK(lseek(file, 1, SEEK_CUR) == 8);
    FAILS(lseek(file, -9, SEEK_CUR), EINVAL);
    FAILS(lseek(file, 0, 99), EINVAL);
    CHECK(lseek(file, 0, SEEK_DATA) == 0);
    CHECK(lseek(file, 0, SEEK_HOLE) == 10);
    FAILS(lseek(file, 10, SEEK_DATA), ENXIO);
    int pair[2];
    CHECK(pipe(pair) == 0);
    FAILS(lseek(pair[0], 0, SEEK_SET), ESPIPE);
    FAILS(pread(pair[0], large, 1, 0), ESPIPE);
    close(pair[0]), close(pair[1]), close(file);
}

static void holes_read_as_zeros(void) {
    char back[64];
    int file = fresh("holes");
    CHECK(pwrite(file, "end", 3, 5 * CHUNK) == 3);
    CHECK(size_of(file) == 5 * CHUNK + 3);
    CHECK(pread(file, back, sizeof back, 2 * CHUNK - 32) == sizeof back);
    for (size_t i = 0; i < sizeof back; i++)
        CHECK(back[i] == 0);
    CHECK(pread(file, back, sizeof back, 5 * CHUNK) == 3 && memcmp(back, "end", 3) == 0);
    close(file);
}

static void a_cut_file_grows_again_with_zeros(void) {
    char back[8] = "xxxxxxx";
    int file = fresh("cut");
    CHECK(write(file, "01234567", 8) == 8);
    CHECK(ftruncate(file, 2) == 0 && size_of(file) == 2);
    CHECK(ftruncate(file, 8) == 0 && size_of(file) == 8);
    CHECK(pread(file, back, 8, 0) == 8 && memcmp(back, "01\0\0\0\0\0\0", 8) == 0);
    CHECK(truncate("cut", 1) == 0 && size_of(file) == 1);
    CHECK(pwrite(file, "9", 1, 4) == 1);
    CHECK(pread(file, back, 8, 0) == 5 && memcmp(back, "0\0\0\0009", 5) == 0);
    FAILS(ftruncate(file, -1), EINVAL);
    FAILS(truncate(".", 1), EISDIR);
    close(file);
    file = open("cut", O_RDONLY);
    FAILS(ftruncate(file, 0), EINVAL);
    close(file);
    file = open("cut", O_RDWR | O_TRUNC);
    CHECK(size_of(file) == 0);
    CHECK(posix_fallocate(file, 100, 100) == 0 && size_of(file) == 200);
    close(file);
}

static void appends_go_to_the_end(void) {
    char back[16];
    int file = fresh("log"), log = open("log", O_WRONLY | O_APPEND);
    CHECK(write(log, "one", 3) == 3);
    CHECK(write(file, "ONE", 3) == 3);
    CHECK(lseek(log, 0, SEEK_SET) == 0);
    CHECK(write(log, "two", 3) == 3);
    CHECK(lseek(log, 0, SEEK_CUR) == 6);
    CHECK(fcntl(log, F_SETFL, 0) == 0);
    CHECK(pwrite(log, "t", 1, 0) == 1);
    CHECK(pread(file, back, sizeof back, 0) == 6 && memcmp(back, "tNEtwo", 6) == 0);
    close(log), close(file);
}

static void vectors_keep_their_order(void) {
    char a[3], b[4];
    int file = fresh("vector");
    struct iovec out[] = {{"abc", 3}, {"", 0}, {"defg", 4}};
    struct iovec in[] = {{a, 3}, {b, 4}};
    CHECK(writev(file, out, 3) == 7);
    CHECK(preadv(file, in, 2, 0) == 7);
    CHECK(memcmp(a, "abc", 3) == 0 && memcmp(b, "defg", 4) == 0);
    CHECK(pwritev(file, out, 3, 7) == 7 && size_of(file) == 14);
    CHECK(lseek(file, 1, SEEK_SET) == 1);
    CHECK(readv(file, in, 2) == 7 && memcmp(a, "bcd", 3) == 0);
    CHECK(preadv2(file, in, 2, 0, 0) == 7);
    FAILS(syscall(SYS_readv, file, in, IOV_MAX + 1L), EINVAL);
    close(file);
}

static void an_unlinked_file_lives_until_it_is_closed(void) {
    struct stat status;
    int file = fresh("gone");
    CHECK(unlink("gone") == 0);
    CHECK(write(file, "still", 5) == 5 && size_of(file) == 5);
    CHECK(fstat(file, &status) == 0 && status.st_nlink == 0);
    FAILS(open("gone", O_RDONLY), ENOENT);
    close(file);
}

static void files_without_a_name(void) {
    int file = memfd_create("mine", MFD_CLOEXEC);
    CHECK(file >= 0 && fcntl(file, F_GETFD) == FD_CLOEXEC);
    CHECK(write(file, "abc", 3) == 3 && size_of(file) == 3);
    close(file);
    file = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(file >= 0 && write(file, "abc", 3) == 3);
    FAILS(open("flags", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
    close(file);
}

static void bytes_go_from_file_to_file(void) {
    char back[16];
    off_t from = 2;
    int in = fresh("in"), out = fresh("out");
    CHECK(write(in, "0123456789", 10) == 10);
    CHECK(sendfile(out, in, &from, 5) == 5 && from == 7);
    CHECK(lseek(in, 8, SEEK_SET) == 8);
    CHECK(sendfile(out, in, NULL, 100) == 2);
    CHECK(pread(out, back, sizeof back, 0) == 7 && memcmp(back, "2345689", 7) == 0);
    off_t to = 1;
    from = 0;
    CHECK(copy_file_range(in, &from, out, &to, 3, 0) == 3 && from == 3 && to == 4);
    CHECK(pread(out, back, sizeof back, 0) == 7 && memcmp(back, "2012689", 7) == 0);
    close(in), close(out);
}

static void a_private_mapping_has_the_bytes(void) {
    int file = open("data", O_RDONLY);
    char *map = mmap(NULL, sizeof large, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    CHECK(map != MAP_FAILED && memcmp(map, large, CHUNK - 2) == 0);
    CHECK(memcmp(map + CHUNK - 2, "seam", 4) == 0);
    map[0]++;
    char first;
    CHECK(pread(file, &first, 1, 0) == 1 && first == large[0]);
    CHECK(munmap(map, sizeof large) == 0);
    close(file);
}

int main(void) {
    char home[] = "/tmp/filesXXXXXX";
    CHECK(mkdtemp(home) && chdir(home) == 0);
    open_flags_do_what_they_say();
    the_umask_takes_bits_away();
    a_dangling_link_makes_its_target();
    what_is_written_is_read();
    positions_move_as_asked();
    holes_read_as_zeros();
    a_cut_file_grows_again_with_zeros();
    appends_go_to_the_end();
    vectors_keep_their_order();
    an_unlinked_file_lives_until_it_is_closed();
    files_without_a_name();
    bytes_go_from_file_to_file();
    a_private_mapping_has_the_bytes();
    return done();
}
