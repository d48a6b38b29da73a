/* driver.c: answers `run` and `call` as a language's driver does, with what it was asked. */

static void put(struct hl_request *request, const char *name) {
    struct hl_json_value value;
    hl_json_key(&request->result, name);
    if (hl_json_member(request->params, name, &value))
        hl_json_raw(&request->result, value.text, value.size);
    else
        hl_json_null(&request->result);
}

/* Prints the code on both streams; its first letter is the exit code, or ends the guest. */
static void run(struct hl_request *request) {
    static char code[4096];
    size_t size = 0;
    hl_param_text(request, "code", code, sizeof code, &size);
    hl_write(HL_CONSOLE_STDOUT, code, size);
    hl_write(HL_CONSOLE_STDERR, "\xff", 1);
    if (size && code[0] == 'x')
        hl_exit(7);
    hl_json_open(&request->result, '{');
    hl_json_key(&request->result, "exit_code");
    hl_json_int(&request->result, size ? hl_json_digit(code[0]) : 0);
    hl_json_close(&request->result, '}');
}

/* The parameters, as the value. */
static void call(struct hl_request *request) {
    hl_json_open(&request->result, '{');
    hl_json_key(&request->result, "value");
    hl_json_open(&request->result, '{');
    put(request, "function");
    put(request, "args");
    put(request, "kwargs");
    put(request, "reseed");
    hl_json_close(&request->result, '}');
    hl_json_close(&request->result, '}');
}

const struct hl_method hl_methods[] = {{"run", run}, {"call", call}, {0}};
