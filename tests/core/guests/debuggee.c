/* debuggee.c: a native guest to debug: counts, loops, and crashes in several ways. */

static volatile int64_t total;

static int64_t parameter(const struct hl_request *request, const char *name) {
    int64_t value = 0;
    hl_param_int(request, name, &value);
    return value;
}

static int64_t twice(int64_t number) {
    int64_t result = number * 2;
    total += result;
    return result;
}

static void sum(struct hl_request *request) {
    int64_t result = 0;
    for (int64_t i = 1; i <= parameter(request, "last"); i++)
        result += twice(i);
    hl_json_int(&request->result, result);
}

static void loop(struct hl_request *request) {
    volatile int stop = 0;
    hl_print("begun");
    while (!stop)
        total++;
    hl_json_int(&request->result, stop);
}

static void store(volatile int64_t *place) { *place = 1; }

static void crash(struct hl_request *request) {
    struct hl_answer answer;
    hl_call("no.such", "{}", 2, NULL, 0, &answer);
    store((volatile int64_t *)parameter(request, "address"));
    hl_json_null(&request->result);
}

/* Executes no instruction at an address and with a stack and a frame of the test's choice. */
static void stray(struct hl_request *request) {
    __asm__ volatile("mov %0, %%rsp\n mov %1, %%rbp\n jmp *%2"
                     :
                     : "r"(parameter(request, "stack")), "r"(parameter(request, "frame")),
                       "r"(parameter(request, "code")));
}

/* Builds two frames that call each other for ever, and stops in them. */
static void circle(struct hl_request *request) {
    static uint64_t frames[4];
    frames[0] = (uint64_t)&frames[2], frames[1] = (uint64_t)circle + 4;
    frames[2] = (uint64_t)&frames[0], frames[3] = (uint64_t)circle + 4;
    __asm__ volatile("mov %0, %%rsp\n mov %0, %%rbp\n jmp *%1"
                     :
                     : "r"(frames), "r"(parameter(request, "code")));
}

const struct hl_method hl_methods[] = {{"sum", sum},     {"loop", loop},     {"crash", crash},
                                       {"stray", stray}, {"circle", circle}, {0}};
