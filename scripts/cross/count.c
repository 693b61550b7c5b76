/* A QEMU plugin that counts executed guest instructions into the file named by out=FILE. With mark=N it also writes the
   count so far, on a line of its own, whenever the guest makes system call N: a program can tell its stages apart.
   Declared by hand, because distributions do not install qemu-plugin.h; these parts have been the same in every version
   of the interface. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*callback)(unsigned, void *), int flags,
                                          void *data);
typedef void syscall_callback(uint64_t id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                              uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(uint64_t id, syscall_callback *callback);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*callback)(uint64_t, void *), void *data);

int qemu_plugin_version = PLUGIN_VERSION;
static unsigned long long instructions;
static char path[4096];
static int64_t mark = -1;
static FILE *file;

static void executed(unsigned cpu, void *data) {
    (void)cpu;
    instructions += (uintptr_t)data;
}

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(uint64_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == mark) fprintf(file, "%llu\n", instructions), fflush(file);
}

static void ended(uint64_t id, void *data) {
    (void)id, (void)data;
    fprintf(file, "%llu\n", instructions), fclose(file);
}

int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments);
int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments) {
    (void)info;
    if (count < 1 || strncmp(arguments[0], "out=", 4) || strlen(arguments[0]) >= sizeof path) return 1;
    strcpy(path, arguments[0] + 4);
    if (!(file = fopen(path, "w"))) return 1;
    if (count > 1 && !strncmp(arguments[1], "mark=", 5)) {
        mark = strtoll(arguments[1] + 5, NULL, 10);
        qemu_plugin_register_vcpu_syscall_cb(id, called);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
