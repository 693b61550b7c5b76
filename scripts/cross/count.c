/* A QEMU plugin that counts executed guest instructions into the file named by out=FILE. Declared by hand, because
   distributions do not install qemu-plugin.h; these parts have been the same in every version of the interface. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*callback)(unsigned, void *), int flags,
                                          void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*callback)(uint64_t, void *), void *data);

int qemu_plugin_version = PLUGIN_VERSION;
static unsigned long long instructions;
static char path[4096];

static void executed(unsigned cpu, void *data) {
    (void)cpu;
    instructions += (uintptr_t)data;
}

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void ended(uint64_t id, void *data) {
    FILE *file = fopen(path, "w");
    (void)id, (void)data;
    if (file) fprintf(file, "%llu\n", instructions), fclose(file);
}

int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments);
int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments) {
    (void)info;
    if (count < 1 || strncmp(arguments[0], "out=", 4) || strlen(arguments[0]) >= sizeof path) return 1;
    strcpy(path, arguments[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
