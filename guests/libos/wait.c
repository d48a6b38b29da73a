/* wait.c: queues of tasks that wait for something, first come, first served. */
#include "process.h"

/* As many queues as a wait takes without asking the heap. */
#define FEW 4

void wait_join(struct wait_node *node, struct wait_queue *queue) {
    node->queue = queue;
    node->task = current;
    if (!queue->first) {
        node->next = node->previous = node;
        queue->first = node;
        return;
    }
    node->next = queue->first;
    node->previous = queue->first->previous;
    node->previous->next = node->next->previous = node;
}

void wait_remove(struct wait_node *node) {
    struct wait_queue *queue = node->queue;
    if (!queue)
        return;
    node->previous->next = node->next;
    node->next->previous = node->previous;
    if (queue->first == node)
        queue->first = node->next == node ? NULL : node->next;
    node->queue = NULL;
}

void wait_leave(struct task *task) {
    for (size_t i = 0; i < task->wait_count; i++)
        wait_remove(&task->wait_nodes[i]);
    task->wait_count = 0;
}

long wait_blocked(struct wait_node *nodes, size_t count, int64_t deadline_ns) {
    current->wait_nodes = nodes;
    current->wait_count = count;
    long result = task_block(deadline_ns);
    wait_leave(current);
    return result;
}

long wait_on_any(struct wait_queue *const *queues, size_t count, int64_t deadline_ns) {
    struct wait_node few[FEW];
    struct wait_node *nodes = count <= FEW ? few : heap_alloc(count * sizeof *nodes);
    if (!nodes)
        return -ENOMEM;
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (queues[i])
            wait_join(&nodes[used++], queues[i]);
    long result = wait_blocked(nodes, used, deadline_ns);
    if (nodes != few)
        heap_free(nodes);
    return result;
}

long wait_on(struct wait_queue *queue, int64_t deadline_ns) {
    return wait_on_any(&queue, 1, deadline_ns);
}

void wake_one(struct wait_queue *queue) {
    struct wait_node *node = queue->first;
    if (!node)
        return;
    wait_remove(node);
    task_wake(node->task, 0);
}

void wake_all(struct wait_queue *queue) {
    while (queue->first)
        wake_one(queue);
}
