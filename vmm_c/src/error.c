/* error.c: the sentence about the last failure, one per thread. */
#include <stdarg.h>
#include <stdio.h>
#include "internal.h"

static _Thread_local char text[512] = "no error";

int hl_fail(int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error;
}

const char *hl_error_text(void) { return text; }
