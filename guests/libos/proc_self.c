/* proc_self.c: /proc/<id>: what a program can read about itself, proc(5). */
#include "proc.h"
#include "process.h"

#define TICKS 100 /* a second: USER_HZ */

/* ---- memory and time ------------------------------------------------------------------------- */
static uint64_t ticks_of(int64_t ns) { return ns / (NANOSECONDS / TICKS); }

static void fill_maps(struct text *text) {
    size_t size = memory_maps_text(text->to + text->used, text->room - text->used);
    text->used += size;
}

static void fill_statm(struct text *text) {
    uint64_t pages = memory_mapped_bytes() / HL_PAGE_SIZE;
    text_decimal(text, pages);
    text_string(text, " ");
    text_decimal(text, pages);
    text_string(text, " 0 0 0 ");
    text_decimal(text, pages);
    text_string(text, " 0\n");
}

static void text_zeros(struct text *text, unsigned count) {
    while (count--)
        text_string(text, " 0");
}

/* proc(5) numbers the fields; the process has its own group and session and no terminal. */
static void fill_stat(struct text *text) {
    text_decimal(text, PROCESS_ID);
    text_string(text, " (");
    text_string(text, current->name);
    text_string(text, ") R 1 ");
    text_decimal(text, PROCESS_ID);
    text_string(text, " ");
    text_decimal(text, PROCESS_ID);
    text_string(text, " 0 -1 4194304 0 0 0 0 "); /* 7 to 13 */
    text_decimal(text, ticks_of(process_cpu_ns()));
    text_string(text, " 0 0 0 20 0 "); /* 15 to 19 */
    text_decimal(text, task_count());
    text_string(text, " 0 0 "); /* 21, 22: it started with the machine */
    text_decimal(text, memory_mapped_bytes());
    text_string(text, " ");
    text_decimal(text, memory_mapped_bytes() / HL_PAGE_SIZE);
    text_string(text, " 18446744073709551615");
    text_zeros(text, 27); /* 26 to 52 */
    text_string(text, "\n");
}

static void fill_status(struct text *text) {
    text_string(text, "Name:\t");
    text_string(text, current->name);
    text_string(text, "\nUmask:\t");
    text_number(text, file_mode_mask, 8, 4);
    text_string(text, "\nState:\tR (running)\n");
    text_field(text, "Tgid", PROCESS_ID);
    text_field(text, "Pid", PROCESS_ID);
    text_field(text, "PPid", 1);
    text_field(text, "TracerPid", 0);
    text_string(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
    text_field(text, "FDSize", DESCRIPTOR_LIMIT);
    text_string(text, "Groups:\t\n");
    text_kilobytes(text, "VmPeak", memory_mapped_bytes());
    text_kilobytes(text, "VmSize", memory_mapped_bytes());
    text_kilobytes(text, "VmHWM", memory_mapped_bytes());
    text_kilobytes(text, "VmRSS", memory_mapped_bytes());
    text_field(text, "Threads", task_count());
    text_string(text,
                "Seccomp:\t0\nCpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed_list:\t0\n");
    text_field(text, "voluntary_ctxt_switches", 0);
    text_field(text, "nonvoluntary_ctxt_switches", 0);
}

/* ---- the program ----------------------------------------------------------------------------- */
static void fill_arguments(struct text *text) {
    text_bytes(text, program.arguments, program.arguments_size);
}

static void fill_environment(struct text *text) {
    text_bytes(text, program.environment, program.environment_size);
}

static void fill_auxiliary(struct text *text) {
    text_bytes(text, program.auxiliary, program.auxiliary_size);
}

static void fill_name(struct text *text) {
    text_string(text, current->name);
    text_string(text, "\n");
}

static void fill_control_group(struct text *text) { text_string(text, "0::/\n"); }

static void fill_limits(struct text *text) {
    text_string(text,
                "Limit                     Soft Limit           Hard Limit           Units     \n"
                "Max cpu time              unlimited            unlimited            seconds   \n"
                "Max file size             unlimited            unlimited            bytes     \n"
                "Max open files            ");
    text_decimal(text, DESCRIPTOR_LIMIT);
    text_string(text, "                 ");
    text_decimal(text, DESCRIPTOR_LIMIT);
    text_string(text,
                "                 files     \n"
                "Max address space         unlimited            unlimited            bytes     \n");
}

static void fill_zero(struct text *text) { text_string(text, "0\n"); }

/* ---- mounts ---------------------------------------------------------------------------------- */
static const char *mount_kind(const struct mount *mount) {
    static const struct {
        const char *path, *kind;
    } kinds[] = {{"", "image"},         {"/tmp", "tmpfs"}, {"/dev", "devtmpfs"},
                 {"/dev/shm", "tmpfs"}, {"/proc", "proc"}, {"/sys", "sysfs"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !(mount->flags & MOUNT_HOST); i++)
        if (strcmp(mount->path, kinds[i].path) == 0)
            return kinds[i].kind;
    return "hyperlight";
}

static void fill_mounts(struct text *text) {
    const struct mount *mount;
    for (size_t i = 0; (mount = mount_get(i)); i++) {
        const char *kind = mount_kind(mount);
        text_string(text, kind);
        text_string(text, " ");
        text_string(text, mount->size ? mount->path : "/");
        text_string(text, " ");
        text_string(text, kind);
        text_string(text, mount->flags & MOUNT_READ_ONLY ? " ro 0 0\n" : " rw 0 0\n");
    }
}

void proc_self_fill(struct tree_node *to) {
    tree_link(to, "exe", program.path);
    tree_link(to, "root", "/");
    tree_text(to, "auxv", fill_auxiliary);
    tree_text(to, "cgroup", fill_control_group);
    tree_text(to, "cmdline", fill_arguments);
    tree_text(to, "comm", fill_name);
    tree_text(to, "environ", fill_environment);
    tree_text(to, "limits", fill_limits);
    tree_text(to, "maps", fill_maps);
    tree_text(to, "mounts", fill_mounts);
    tree_text(to, "oom_score", fill_zero);
    tree_text(to, "stat", fill_stat);
    tree_text(to, "statm", fill_statm);
    tree_text(to, "status", fill_status);
    tree_dynamic(to, "fd", &proc_fd_operations);
    tree_dynamic(to, "fdinfo", &proc_fdinfo_operations);
}
