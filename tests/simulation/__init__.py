"""A deterministic simulation of the whole worker, with faults.

Read it in this order: `scenario` (what happens, drawn from a seed), `world` and `actors` (buckets, queues and workers
under ECS, and who acts on them), `lanes` (what a worker may do with a backfill queue), `network` (the way of a request,
and its faults), `kernel` and `machine` (threads, processes and time), `invariants` (what must hold), `simulate` (runs
seeds, and reduces those that fail). `s3_model` and `sqs_model` are compared with emulators; `operating` and
`test_operator` are a state machine on the same models.

- A new fault of a request: a member of `network.Fault` with a weight in `_WEIGHTS`, and what it does in `_Request`.
- A new action: a member of `scenario.Kind` with a weight, its arguments in `_actions`, and a method of `Actors`.
- A new invariant: a generator of sentences in `invariants`, called by `_problems`.
- A new way to break the worker: an entry of `mutation_list`.
"""
