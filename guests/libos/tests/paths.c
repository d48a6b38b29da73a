/* paths.c: names: how they are walked, made, moved and removed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

static void touch(const char *name) {
    int file = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    CHECK(file >= 0 && write(file, name, strlen(name)) == (ssize_t)strlen(name));
    close(file);
}

static ino_t inode(const char *name) {
    struct stat status;
    CHECK(stat(name, &status) == 0);
    return status.st_ino;
}

static void dots_and_slashes(void) {
    CHECK(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0);
    touch("a/b/file");
    CHECK(inode("a/b/file") == inode("./a//b/../../a/./b///file"));
    CHECK(inode("/..") == inode("/") && inode("/../../tmp") == inode("/tmp"));
    FAILS(access("a/b/file/..", F_OK), ENOTDIR);
    FAILS(access("a/nothing/../b", F_OK), ENOENT);
    FAILS(access("", F_OK), ENOENT);
    CHECK(inode("a/b/.") == inode("a/b/"));
}

static void links_are_followed(void) {
    char target[PATH_MAX];
    CHECK(symlink("a/b", "short") == 0 && symlink("../../a/b", "a/b/up") == 0);
    CHECK(inode("short/file") == inode("a/b/file"));
    CHECK(inode("short/..") == inode("a")); /* of where it leads, not of where it lies */
    CHECK(inode("a/b/up/up/up/file") == inode("a/b/file"));
    CHECK(readlink("short", target, sizeof target) == 3 && memcmp(target, "a/b", 3) == 0);
    CHECK(readlink("short", target, 2) == 2);
    FAILS(readlink("a/b/file", target, 10), EINVAL);
    FAILS(readlink("short/", target, 10), EINVAL);
    CHECK(symlink("round", "round") == 0);
    FAILS(open("round", O_RDONLY), ELOOP);
    FAILS(symlink("", "empty"), ENOENT);
    FAILS(symlink("x", "short"), EEXIST);
    char absolute[PATH_MAX];
    CHECK(getcwd(absolute, sizeof absolute - 4));
    strcat(absolute, "/a");
    CHECK(symlink(absolute, "far") == 0 && inode("far/b/file") == inode("a/b/file"));
    struct stat status;
    CHECK(lstat("short", &status) == 0 && S_ISLNK(status.st_mode) && status.st_size == 3);
    CHECK(lstat("short/", &status) == 0 && S_ISDIR(status.st_mode));
}

static void long_names_are_refused(void) {
    char name[NAME_MAX + 2], path[PATH_MAX + 1];
    memset(name, 'n', sizeof name);
    name[NAME_MAX + 1] = '\0';
    FAILS(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
    name[NAME_MAX] = '\0';
    touch(name);
    CHECK(unlink(name) == 0);
    memset(path, '/', sizeof path);
    path[PATH_MAX] = '\0';
    FAILS(access(path, F_OK), ENAMETOOLONG);
}

static void directories_come_and_go(void) {
    struct stat status;
    FAILS(mkdir("a", 0755), EEXIST);
    FAILS(mkdir("a/b/file", 0755), EEXIST);
    FAILS(mkdir("short", 0755), EEXIST);
    FAILS(mkdir("no/such", 0755), ENOENT);
    FAILS(mkdir("/", 0755), EEXIST);
    CHECK(mkdir("new/", 0700) == 0);
    CHECK(stat("new", &status) == 0 && status.st_nlink == 2 && (status.st_mode & 0777) == 0700);
    CHECK(mkdir("new/sub", 0755) == 0 && stat("new", &status) == 0 && status.st_nlink == 3);
    FAILS(rmdir("new"), ENOTEMPTY);
    FAILS(rmdir("new/sub/."), EINVAL);
    FAILS(rmdir("a/b/file"), ENOTDIR);
    FAILS(unlink("new/sub"), EISDIR);
    FAILS(rmdir("nothing"), ENOENT);
    FAILS(unlink("a/b/file/"), ENOTDIR);
    CHECK(rmdir("new/sub") == 0 && rmdir("new") == 0);
}

static void a_removed_directory_stays_empty(void) {
    char path[PATH_MAX];
    int home = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(mkdir("lost", 0755) == 0 && chdir("lost") == 0 && rmdir("../lost") == 0);
    FAILS(open("file", O_WRONLY | O_CREAT, 0644), ENOENT);
    FAILS(mkdir("sub", 0755), ENOENT);
    CHECK(fchdir(home) == 0 && getcwd(path, sizeof path));
    close(home);
}

static void renames_replace_what_fits(void) {
    touch("one"), touch("two");
    ino_t one = inode("one");
    CHECK(rename("one", "two") == 0 && inode("two") == one);
    FAILS(rename("one", "two"), ENOENT);
    CHECK(rename("two", "two") == 0);
    CHECK(mkdir("full", 0755) == 0 && mkdir("empty", 0755) == 0);
    touch("full/file");
    FAILS(rename("empty", "full"), ENOTEMPTY);
    FAILS(rename("two", "empty"), EISDIR);
    FAILS(rename("empty", "two"), ENOTDIR);
    FAILS(rename("two", "new/"), ENOTDIR);
    FAILS(rename("full", "full/below"), EINVAL);
    ino_t full = inode("full");
    CHECK(rename("full", "empty") == 0 && inode("empty") == full);
    CHECK(rename("empty", "a/moved") == 0 && inode("a/moved/..") == inode("a"));
    CHECK(inode("a/moved/file"));
    CHECK(syscall(SYS_renameat2, AT_FDCWD, "two", AT_FDCWD, "three", 1) == 0);
    touch("four");
    FAILS(syscall(SYS_renameat2, AT_FDCWD, "three", AT_FDCWD, "four", 1), EEXIST);
    CHECK(rename("short", "renamed") == 0 && access("renamed/file", F_OK) == 0);
    CHECK(rename("renamed", "short") == 0);
}

static void a_file_may_have_two_names(void) {
    struct stat status;
    CHECK(link("four", "five") == 0 && inode("four") == inode("five"));
    CHECK(stat("five", &status) == 0 && status.st_nlink == 2);
    FAILS(link("four", "five"), EEXIST);
    FAILS(link("a", "directory"), EPERM);
    FAILS(link("nothing", "x"), ENOENT);
    CHECK(rename("four", "five") == 0); /* both are the file: nothing happens */
    CHECK(unlink("four") == 0 && stat("five", &status) == 0 && status.st_nlink == 1);
    CHECK(link("short", "shorter") == 0); /* the link itself */
    CHECK(lstat("shorter", &status) == 0 && S_ISLNK(status.st_mode));
}

static void paths_start_at_a_descriptor(void) {
    struct stat status;
    int directory = open("a", O_PATH | O_DIRECTORY);
    CHECK(fstatat(directory, "b/file", &status, 0) == 0 && status.st_ino == inode("a/b/file"));
    CHECK(fstatat(directory, "", &status, AT_EMPTY_PATH) == 0 && status.st_ino == inode("a"));
    CHECK(mkdirat(directory, "made", 0755) == 0 && access("a/made", F_OK) == 0);
    CHECK(renameat(directory, "made", AT_FDCWD, "moved") == 0);
    CHECK(symlinkat("b", directory, "soft") == 0 &&
          linkat(directory, "soft", directory, "hard", 0) == 0);
    CHECK(unlinkat(directory, "hard", 0) == 0 && unlinkat(AT_FDCWD, "moved", AT_REMOVEDIR) == 0);
    CHECK(faccessat(directory, "b", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    char byte;
    FAILS(read(directory, &byte, 1), EBADF);
    FAILS(openat(directory, "..", O_WRONLY), EISDIR);
    close(directory);
    FAILS(fstatat(directory, "b", &status, 0), EBADF);
    int file = open("five", O_RDONLY);
    FAILS(openat(file, "x", O_RDONLY), ENOTDIR);
    CHECK(openat(file, "/tmp", O_PATH) >= 0); /* an absolute path asks no descriptor */
    close(file);
}

static int count(const char *path, const char *name) {
    DIR *directory = opendir(path);
    int found = 0;
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        found += !name || strcmp(entry->d_name, name) == 0;
    CHECK(closedir(directory) == 0);
    return found;
}

static void listings_are_whole(void) {
    char name[64];
    CHECK(mkdir("many", 0755) == 0 && count("many", NULL) == 2);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "many/a-name-of-some-length-%d", i);
        touch(name);
    }
    CHECK(count("many", NULL) == 1002 && count("many", ".") == 1 && count("many", "..") == 1);
    CHECK(count("many", "a-name-of-some-length-999") == 1);
    DIR *directory = opendir("many");
    struct dirent *entry = NULL;
    for (int i = 0; i < 500; i++)
        CHECK((entry = readdir(directory)) && (entry->d_type == DT_REG || entry->d_type == DT_DIR));
    long place = telldir(directory);
    CHECK((entry = readdir(directory)));
    strcpy(name, entry->d_name);
    seekdir(directory, place);
    CHECK((entry = readdir(directory)) && strcmp(entry->d_name, name) == 0);
    rewinddir(directory);
    while ((entry = readdir(directory)))
        if (entry->d_type == DT_REG)
            CHECK(unlinkat(dirfd(directory), entry->d_name, 0) == 0);
    CHECK(closedir(directory) == 0 && count("many", NULL) == 2 && rmdir("many") == 0);
    char tiny[10];
    int file = open(".", O_RDONLY);
    FAILS(syscall(SYS_getdents64, file, tiny, sizeof tiny), EINVAL);
    FAILS(read(file, tiny, 1), EISDIR);
    close(file);
    file = open("five", O_RDONLY);
    FAILS(syscall(SYS_getdents64, file, tiny, sizeof tiny), ENOTDIR);
    close(file);
}

static void the_working_directory_is_known(void) {
    char home[PATH_MAX], path[PATH_MAX], expected[PATH_MAX + 8];
    CHECK(getcwd(home, sizeof home));
    snprintf(expected, sizeof expected, "%s/a/b", home);
    CHECK(chdir("short") == 0 && getcwd(path, sizeof path) && strcmp(path, expected) == 0);
    CHECK(chdir("..") == 0 && access("b/file", F_OK) == 0);
    FAILS(chdir("b/file"), ENOTDIR);
    FAILS(chdir("nothing"), ENOENT);
    CHECK(chdir("/") == 0 && getcwd(path, sizeof path) && strcmp(path, "/") == 0);
    errno = 0;
    CHECK(!getcwd(path, 1) && errno == ERANGE);
    CHECK(chdir(home) == 0);
}

static void attributes_are_kept(void) {
    struct stat status;
    struct timespec times[2] = {{1000000000, 123456789}, {1500000000, 987654321}};
    CHECK(chmod("five", 0604) == 0 && stat("five", &status) == 0);
    CHECK(S_ISREG(status.st_mode) && (status.st_mode & 07777) == 0604);
    CHECK(utimensat(AT_FDCWD, "five", times, 0) == 0 && stat("five", &status) == 0);
    CHECK(status.st_atim.tv_sec == 1000000000 && status.st_atim.tv_nsec == 123456789);
    CHECK(status.st_mtim.tv_sec == 1500000000 && status.st_mtim.tv_nsec == 987654321);
    times[0].tv_nsec = UTIME_OMIT, times[1].tv_nsec = UTIME_NOW;
    CHECK(utimensat(AT_FDCWD, "five", times, 0) == 0 && stat("five", &status) == 0);
    CHECK(status.st_atim.tv_sec == 1000000000 && status.st_mtim.tv_sec > 1500000000);
    times[0].tv_nsec = -5;
    FAILS(utimensat(AT_FDCWD, "five", times, 0), EINVAL);
    CHECK(utimensat(AT_FDCWD, "short", NULL, AT_SYMLINK_NOFOLLOW) == 0);
    struct statx extended;
    CHECK(statx(AT_FDCWD, "five", 0, STATX_BASIC_STATS, &extended) == 0);
    CHECK(extended.stx_ino == status.st_ino && extended.stx_mode == status.st_mode);
    CHECK(access("five", R_OK | W_OK) == 0);
    FAILS(access("five", X_OK), EACCES);
    FAILS(access("five", 8), EINVAL);
    CHECK(chown("five", (uid_t)-1, (gid_t)-1) == 0);
}

int main(void) {
    char home[] = "/tmp/pathsXXXXXX";
    CHECK(mkdtemp(home) && chdir(home) == 0);
    dots_and_slashes();
    links_are_followed();
    long_names_are_refused();
    directories_come_and_go();
    a_removed_directory_stays_empty();
    renames_replace_what_fits();
    a_file_may_have_two_names();
    paths_start_at_a_descriptor();
    listings_are_whole();
    the_working_directory_is_known();
    attributes_are_kept();
    return done();
}
