"""How fast is Perdure on this machine? Workloads in processes and stores of their own; docs/benchmarks.md has them."""
