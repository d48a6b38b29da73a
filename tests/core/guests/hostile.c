/* hostile.c: a guest that attacks its host, told by the test how. */

static uint8_t code[4096] __attribute__((aligned(4096)));

static int64_t number(const struct hl_request *request, const char *name) {
    int64_t value = 0;
    hl_param_int(request, name, &value);
    return value;
}

/* Runs any machine code; the result is what it leaves in RAX. */
static int64_t run_code(const struct hl_request *request) {
    static char text[2 * sizeof code];
    size_t size = 0;
    uint64_t result;
    hl_param_text(request, "code", text, sizeof text, &size);
    for (size_t i = 0; i < size / 2; i++)
        code[i] = (uint8_t)(hl_json_hex(text[2 * i]) << 4 | hl_json_hex(text[2 * i + 1]));
    memcpy(code + size / 2, "\xc3\x0f\x0b", 3); /* ret; ud2 */
    __asm__ volatile("call *%1"
                     : "=a"(result)
                     : "r"(code)
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
                       "r14", "r15", "memory", "cc");
    return (int64_t)result;
}

static void execute(struct hl_request *request) {
    hl_json_int(&request->result, run_code(request));
}

/* Goes on behind the instruction that faulted, which is as long as the method `storm` was told. */
uint64_t faults, instruction_size;
void skip(void);
__asm__("skip:\n"
        "  push %rax\n"
        "  mov instruction_size, %rax\n"
        "  add %rax, 24(%rsp)\n" /* above it: vector, error code, RIP */
        "  incq faults\n"
        "  pop %rax\n"
        "  add $16, %rsp\n"
        "  iretq\n");

/* Runs one instruction again and again, surviving it each time; the result is how often it faulted. */
static void storm(struct hl_request *request) {
    hl_control()->exception_entry = (uint64_t)skip;
    instruction_size = (uint64_t)number(request, "length");
    for (int64_t times = number(request, "times"); times > 0; times--)
        run_code(request);
    hl_control()->exception_entry = 0;
    hl_json_uint(&request->result, faults);
}

/* Writes bytes that nobody can foretell, but everybody can repeat. */
static void scribble(struct hl_request *request) {
    uint64_t state = (uint64_t)number(request, "seed");
    volatile uint8_t *at = (volatile uint8_t *)number(request, "address");
    for (int64_t left = number(request, "size"); left > 0; left--) {
        state = state * 6364136223846793005 + 1442695040888963407;
        *at++ = (uint8_t)(state >> 56);
    }
    hl_json_null(&request->result);
}

static void peek(struct hl_request *request) {
    hl_json_uint(&request->result, *(volatile uint64_t *)number(request, "address"));
}

static void poke(struct hl_request *request) {
    *(volatile uint64_t *)number(request, "address") = (uint64_t)number(request, "value");
    hl_json_null(&request->result);
}

/* Leaves with a frame that says whatever the test wants: as a reply, or as a host call. */
static void forge(struct hl_request *request) {
    uint8_t *frame = (uint8_t *)hl_boot_info()->out_address;
    const struct hl_frame header = {(uint32_t)number(request, "version"),
                                    (uint32_t)number(request, "json_size"),
                                    (uint32_t)number(request, "attachment_offset"),
                                    (uint32_t)number(request, "attachment_size")};
    size_t size = 0;
    hl_param_text(request, "text", (char *)frame + sizeof header, 60000, &size);
    memcpy(frame, &header, sizeof header);
    if (!number(request, "call")) {
        hl_out(HL_PORT_PARK, HL_PARK_IDLE);
        hl_exit(99);
    }
    hl_out(HL_PORT_CALL, 0);
    const struct hl_frame *answer = (const struct hl_frame *)hl_boot_info()->in_address;
    hl_json_string(&request->result, (const char *)(answer + 1), answer->json_size);
}

/* Puts a console record of any kind into the buffer and claims any size for all of it. */
static void console(struct hl_request *request) {
    struct hl_console_record *record = (struct hl_console_record *)hl_boot_info()->console_address;
    record->stream = (uint32_t)number(request, "stream");
    record->size = (uint32_t)number(request, "size");
    hl_control()->console_used = (uint32_t)number(request, "used");
    hl_out(HL_PORT_CONSOLE, 0);
    hl_json_null(&request->result);
}

static void flood(struct hl_request *request) {
    for (int64_t lines = number(request, "lines"); lines > 0; lines--)
        hl_write(lines & 1 ? HL_CONSOLE_STDOUT : HL_CONSOLE_STDERR, "all work and no play\n", 21);
    hl_json_null(&request->result);
}

static void call(struct hl_request *request) {
    struct hl_answer answer;
    char method[256];
    size_t size = 0;
    int answered = 0;
    hl_param_text(request, "method", method, sizeof method - 1, &size);
    method[size] = 0;
    for (int64_t times = number(request, "times"); times > 0; times--)
        answered = hl_call(method, "{}", 2, NULL, 0, &answer);
    hl_json_open(&request->result, '[');
    hl_json_bool(&request->result, answered);
    hl_json_raw(&request->result, answer.value.text, answer.value.size);
    hl_json_close(&request->result, ']');
}

static void __attribute__((noinline)) recurse(volatile uint8_t *above) {
    volatile uint8_t here[1024];
    here[0] = *above;
    if (here[0] == 0)
        recurse(here);
    here[1] = here[0];
}

static void recursion(struct hl_request *request) {
    volatile uint8_t nothing = (uint8_t)request->failed;
    recurse(&nothing);
}

static void spin(struct hl_request *request) {
    hl_print("spinning\n");
    while (!request->failed)
        __asm__ volatile("" : "+m"(request->failed));
}

/* Sleeps until a time of the test's choice, again and again. */
static void sleep_on(struct hl_request *request) {
    hl_print("sleeping\n");
    hl_control()->park_deadline_ns = number(request, "until");
    for (;;)
        hl_out(HL_PORT_PARK, HL_PARK_BLOCKED);
}

/* Leaves again and again for something that the helper answers itself. */
static void roam(struct hl_request *request) {
    hl_print("roaming\n");
    while (!request->failed)
        hl_out(HL_PORT_FAULT_ADDRESS, 0);
}

static void stop(struct hl_request *request) { hl_exit((int)number(request, "status")); }

static uint64_t counted;
static void count(struct hl_request *request) { hl_json_uint(&request->result, ++counted); }

const struct hl_method hl_methods[] = {
    {"execute", execute},     {"scribble", scribble}, {"peek", peek},         {"poke", poke},
    {"forge", forge},         {"console", console},   {"flood", flood},       {"call", call},
    {"recursion", recursion}, {"spin", spin},         {"sleep_on", sleep_on}, {"stop", stop},
    {"roam", roam},           {"storm", storm},       {"count", count},       {0}};
