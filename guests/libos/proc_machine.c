/* proc_machine.c: the files of /proc about the machine: processor, memory, time, settings. */
#include "ports.h"
#include "proc.h"
#include "process.h"

/* ---- processor ------------------------------------------------------------------------------- */
/* Intel SDM vol. 2A, CPUID: where a feature's bit is, and the name Linux gives it. */
#define LEAF1_EDX 0
#define LEAF1_ECX 1
#define LEAF7_EBX 2
#define EXTENDED_EDX 3
static const struct {
    uint8_t word, bit;
    const char *name;
} features[] = {
    {LEAF1_EDX, 0, "fpu"},         {LEAF1_EDX, 4, "tsc"},       {LEAF1_EDX, 8, "cx8"},
    {LEAF1_EDX, 15, "cmov"},       {LEAF1_EDX, 19, "clflush"},  {LEAF1_EDX, 23, "mmx"},
    {LEAF1_EDX, 24, "fxsr"},       {LEAF1_EDX, 25, "sse"},      {LEAF1_EDX, 26, "sse2"},
    {EXTENDED_EDX, 11, "syscall"}, {EXTENDED_EDX, 20, "nx"},    {EXTENDED_EDX, 29, "lm"},
    {LEAF1_ECX, 0, "pni"},         {LEAF1_ECX, 1, "pclmulqdq"}, {LEAF1_ECX, 9, "ssse3"},
    {LEAF1_ECX, 12, "fma"},        {LEAF1_ECX, 13, "cx16"},     {LEAF1_ECX, 19, "sse4_1"},
    {LEAF1_ECX, 20, "sse4_2"},     {LEAF1_ECX, 22, "movbe"},    {LEAF1_ECX, 23, "popcnt"},
    {LEAF1_ECX, 25, "aes"},        {LEAF1_ECX, 26, "xsave"},    {LEAF1_ECX, 28, "avx"},
    {LEAF1_ECX, 29, "f16c"},       {LEAF1_ECX, 30, "rdrand"},   {LEAF7_EBX, 0, "fsgsbase"},
    {LEAF7_EBX, 3, "bmi1"},        {LEAF7_EBX, 5, "avx2"},      {LEAF7_EBX, 8, "bmi2"},
    {LEAF7_EBX, 9, "erms"},        {LEAF7_EBX, 16, "avx512f"},  {LEAF7_EBX, 17, "avx512dq"},
    {LEAF7_EBX, 18, "rdseed"},     {LEAF7_EBX, 19, "adx"},      {LEAF7_EBX, 28, "avx512cd"},
    {LEAF7_EBX, 29, "sha_ni"},     {LEAF7_EBX, 30, "avx512bw"}, {LEAF7_EBX, 31, "avx512vl"},
};

static void text_vendor(struct text *text) {
    uint32_t out[4];
    cpuid(0, 0, out);
    uint32_t name[3] = {out[1], out[3], out[2]};
    text_bytes(text, (const char *)name, sizeof name);
}

static void text_model(struct text *text) {
    uint32_t out[4];
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
        cpuid(leaf, 0, out);
        size_t size = 0;
        while (size < sizeof out && ((const char *)out)[size])
            size++;
        text_bytes(text, (const char *)out, size);
    }
}

/* CPUID leaf 1, EAX: the extended parts count only for some families. */
static void text_version(struct text *text, uint32_t version) {
    uint32_t family = version >> 8 & 15, model = version >> 4 & 15;
    if (family == 6 || family == 15)
        model += (version >> 16 & 15) << 4;
    if (family == 15)
        family += version >> 20 & 0xff;
    text_field(text, "cpu family", family);
    text_field(text, "model\t", model);
    text_field(text, "stepping", version & 15);
}

static void text_features(struct text *text, const uint32_t leaf1[4]) {
    uint32_t leaf7[4], extended[4];
    cpuid(7, 0, leaf7);
    cpuid(0x80000001, 0, extended);
    const uint32_t words[] = {leaf1[3], leaf1[2], leaf7[1], extended[3]};
    text_string(text, "flags\t\t:");
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (words[features[i].word] >> features[i].bit & 1) {
            text_string(text, " ");
            text_string(text, features[i].name);
        }
    text_string(text, "\n");
}

static void fill_processor(struct text *text) {
    uint32_t leaf1[4];
    uint64_t hz = (((uint64_t)NANOSECONDS << 32) / (boot_info()->clock.multiplier | 1));
    cpuid(1, 0, leaf1);
    text_string(text, "processor\t: 0\nvendor_id\t: ");
    text_vendor(text);
    text_string(text, "\n");
    text_version(text, leaf1[0]);
    text_string(text, "model name\t: ");
    text_model(text);
    text_string(text, "\ncpu MHz\t\t: ");
    text_decimal(text, hz / 1000000);
    text_string(text, ".");
    text_number(text, hz / 1000 % 1000, 10, 3);
    text_string(text, "\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\n");
    text_features(text, leaf1);
    text_string(text, "clflush size\t: 64\ncache_alignment\t: 64\n\n");
}

/* ---- memory and time ------------------------------------------------------------------------- */
static void fill_memory(struct text *text) {
    text_kilobytes(text, "MemTotal", boot_info()->ram_size);
    text_kilobytes(text, "MemFree", memory_free_bytes());
    text_kilobytes(text, "MemAvailable", memory_free_bytes());
    text_kilobytes(text, "Buffers", 0);
    text_kilobytes(text, "Cached", 0);
    text_kilobytes(text, "SwapTotal", 0);
    text_kilobytes(text, "SwapFree", 0);
}

/* Seconds with two digits behind the point. */
static void text_seconds(struct text *text, int64_t ns) {
    text_decimal(text, ns / NANOSECONDS);
    text_string(text, ".");
    text_number(text, ns / (NANOSECONDS / 100) % 100, 10, 2);
}

static void fill_uptime(struct text *text) {
    int64_t up = clock_monotonic_ns(), idle = up - process_cpu_ns();
    text_seconds(text, up);
    text_string(text, " ");
    text_seconds(text, idle > 0 ? idle : 0);
    text_string(text, "\n");
}

static void fill_load(struct text *text) {
    text_string(text, "0.00 0.00 0.00 1/");
    text_decimal(text, task_count());
    text_string(text, " ");
    text_decimal(text, PROCESS_ID);
    text_string(text, "\n");
}

static void fill_statistics(struct text *text) {
    uint64_t busy = process_cpu_ns() / (NANOSECONDS / 100);
    uint64_t up = clock_monotonic_ns() / (NANOSECONDS / 100);
    for (int line = 0; line < 2; line++) { /* the sum over all processors, and the only one */
        text_string(text, line ? "cpu0 " : "cpu  ");
        text_decimal(text, busy);
        text_string(text, " 0 0 ");
        text_decimal(text, up > busy ? up - busy : 0);
        text_string(text, " 0 0 0 0 0 0\n");
    }
    text_string(text, "intr 0\nctxt 0\nbtime ");
    text_decimal(text, (clock_realtime_ns() - clock_monotonic_ns()) / NANOSECONDS);
    text_string(text, "\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n");
}

/* ---- names and settings ---------------------------------------------------------------------- */
static void fill_version(struct text *text) {
    text_string(text, system_name.sysname);
    text_string(text, " version ");
    text_string(text, system_name.release);
    text_string(text, " ");
    text_string(text, system_name.version);
    text_string(text, "\n");
}

static void fill_line(struct text *text, const char *line) {
    text_string(text, line);
    text_string(text, "\n");
}

static void fill_type(struct text *text) { fill_line(text, system_name.sysname); }
static void fill_release(struct text *text) { fill_line(text, system_name.release); }
static void fill_version_only(struct text *text) { fill_line(text, system_name.version); }
static void fill_host_name(struct text *text) { fill_line(text, system_name.nodename); }
static void fill_zero(struct text *text) { fill_line(text, "0"); }
static void fill_one(struct text *text) { fill_line(text, "1"); }
static void fill_largest_id(struct text *text) { fill_line(text, "32768"); }
static void fill_groups(struct text *text) { fill_line(text, "65536"); }
static void fill_capability(struct text *text) { fill_line(text, "40"); }
static void fill_map_count(struct text *text) { fill_line(text, "65530"); }
static void fill_pipe_size(struct text *text) { fill_line(text, "65536"); }
static void fill_files(struct text *text) { fill_line(text, "1024"); }

/* A random UUID, RFC 9562, section 5.4. */
static void fill_uuid(struct text *text) {
    uint8_t bytes[16];
    random_bytes(bytes, sizeof bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    for (unsigned i = 0; i < sizeof bytes; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text_string(text, "-");
        text_number(text, bytes[i], 16, 2);
    }
    text_string(text, "\n");
}

static void fill_file_systems(struct text *text) {
    text_string(text, "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\n");
}

static void settings_fill(struct tree_node *to) {
    struct tree_node *kernel = tree_directory(to, "kernel"), *memory = tree_directory(to, "vm");
    struct tree_node *files = tree_directory(to, "fs");
    tree_text(kernel, "ostype", fill_type);
    tree_text(kernel, "osrelease", fill_release);
    tree_text(kernel, "version", fill_version_only);
    tree_text(kernel, "hostname", fill_host_name);
    tree_text(kernel, "pid_max", fill_largest_id);
    tree_text(kernel, "threads-max", fill_largest_id);
    tree_text(kernel, "ngroups_max", fill_groups);
    tree_text(kernel, "cap_last_cap", fill_capability);
    tree_text(kernel, "randomize_va_space", fill_zero);
    tree_text(tree_directory(kernel, "random"), "uuid", fill_uuid);
    tree_text(memory, "overcommit_memory", fill_one);
    tree_text(memory, "max_map_count", fill_map_count);
    tree_text(files, "pipe-max-size", fill_pipe_size);
    tree_text(files, "file-max", fill_files);
    tree_text(files, "nr_open", fill_files);
}

void proc_machine_fill(struct tree_node *to) {
    tree_text(to, "cpuinfo", fill_processor);
    tree_text(to, "filesystems", fill_file_systems);
    tree_text(to, "loadavg", fill_load);
    tree_text(to, "meminfo", fill_memory);
    tree_text(to, "stat", fill_statistics);
    tree_text(to, "uptime", fill_uptime);
    tree_text(to, "version", fill_version);
    settings_fill(tree_directory(to, "sys"));
}
