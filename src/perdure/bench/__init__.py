"""How fast is Perdure on this machine? The workloads of docs/benchmarks.md, each in a process and a store of its own."""
