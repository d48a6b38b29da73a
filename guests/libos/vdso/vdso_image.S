/* vdso_image.S: the vDSO as bytes inside the library OS. */
    .section .rodata
    .balign 16
    .globl vdso_begin, vdso_end
vdso_begin:
    .incbin "vdso.so"
vdso_end:
    .section .note.GNU-stack, "", @progbits
